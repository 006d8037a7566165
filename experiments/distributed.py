"""Trains one run on several devices, which belong to one process or to several of a cluster."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from experiments.reading import ConfigError
from plstm_seq.training import data_mesh

# Variables that hold the number of processes. Slurm's srun and Open MPI's mpirun set theirs.
# Whoever sets the first by hand also sets JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of
# the first process).
_COUNTS = ("JAX_NUM_PROCESSES", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def make_mesh(text: str) -> Mesh:
    """Makes the mesh that `--mesh` names, after joining the other processes if there are any.

    Args:
        text: `data=8` to split every batch over 8 devices, or `data=all` to split it over all.

    Raises:
        ConfigError: the text is something else, or there are not so many devices.
    """
    axis, equals, size = text.partition("=")
    if axis != "data" or not equals or not (size == "all" or size.isdecimal()):
        raise ConfigError(f"--mesh: got {text!r}, expected data=NUMBER or data=all, as data=8")
    _join()
    try:
        return data_mesh(None if size == "all" else int(size))
    except ValueError as error:
        raise ConfigError(f"--{error}") from None


def is_first() -> bool:
    """Returns whether this process is the only or the first one, which writes the run's files."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Returns whether there is only this process."""
    return jax.process_count() == 1


def agreed(fine: bool) -> bool:
    """Sends the first process's value to all processes, and returns it.

    All processes wait here until the first one has called this, too.
    """
    if is_alone():
        return fine
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(fine)))


def wait(what: str) -> None:
    """Waits until all processes have called this function."""
    if not is_alone():
        multihost_utils.sync_global_devices(what)


def _join() -> None:
    counts = [int(os.environ[name]) for name in _COUNTS if os.environ.get(name, "").isdecimal()]
    if not counts or counts[0] == 1 or jax.distributed.is_initialized():
        return
    if "JAX_NUM_PROCESSES" not in os.environ:
        jax.distributed.initialize()
        return
    process = os.environ.get("JAX_PROCESS_ID", "")
    if not process.isdecimal() or "JAX_COORDINATOR_ADDRESS" not in os.environ:
        raise ConfigError(
            "JAX_NUM_PROCESSES is set: JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of "
            "process 0) are needed with it"
        )
    jax.distributed.initialize(num_processes=counts[0], process_id=int(process))
