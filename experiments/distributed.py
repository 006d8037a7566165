"""One run on several devices, of one process or of several that a cluster started."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from experiments.reading import ConfigError
from plstm_seq.training import data_mesh

# Who starts several processes says how many they are: Slurm's srun, Open MPI's mpirun, or, with
# JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (host:port of the first), whoever sets these.
_COUNTS = ("JAX_NUM_PROCESSES", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def make_mesh(text: str) -> Mesh:
    """The mesh that `--mesh` names; joins the other processes first, where there are some.

    Args:
        text: `data=8`: every batch is split over 8 devices; `data=all`: over all.

    Raises:
        ConfigError: something else, or a number of devices that is not there.
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
    """Whether this process is the only one or the first: it alone writes into the run's folder."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether there is only this process."""
    return jax.process_count() == 1


def agreed(fine: bool) -> bool:
    """What the first process says of something that it alone does; all wait for it."""
    if is_alone():
        return fine
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(fine)))


def wait(what: str) -> None:
    """Until all processes are here."""
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
