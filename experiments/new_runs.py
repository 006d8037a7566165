"""Begins new runs: checks the model, makes the folder, and finds the first parameters."""

import os
import shutil
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from experiments.config import ConfigError, ExperimentConfig, check_consistency
from experiments.config_files import has_config, store_config, stored_config
from experiments.files import RunError, free_folder, write_json
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import ROOT, Run, new_model, read_environment
from plstm_seq.ops.device import check_runs_here
from plstm_seq.training import CorruptCheckpointError, load_parameters
from plstm_seq.training.disk import check_path


def new_run(config: ExperimentConfig, folder: str | Path | None) -> Run:
    """Makes a new run, after checking that its model can be trained here.

    Raises:
        ConfigError, UnsupportedError: see `check_trains`.
        RunError: the folder is not empty, or the run that training starts from cannot be read.
    """
    check_trains(config)
    if config.initial_run is not None:
        starting_model(config)
    return create_run(config, folder)


def check_trains(config: ExperimentConfig) -> None:
    """Refuses a config whose model cannot be trained here; nothing is written.

    The model is made and applied to a batch with shapes in the place of arrays, so nothing is
    computed.

    Raises:
        ConfigError: the sizes of the model do not fit each other or its inputs; or there is a
            consistency term, and the model's transitions do not depend on tokens alone.
        UnsupportedError: the implementation that the config names does not run here.
    """
    check_consistency(config)
    problem = problem_of(config.task.make())
    try:
        model = nnx.eval_shape(lambda: new_model(config))
        batch = shapes_of(problem, *config.training.largest_batch)
        graph, state = nnx.split(model)
        program = jax.make_jaxpr(lambda state, inputs: nnx.merge(graph, state)(inputs))
        check_runs_here(program(state, batch.inputs))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from error
    finally:
        problem.release()


def create_run(config: ExperimentConfig, folder: str | Path | None) -> Run:
    """Makes the folder of a new run, with its config and environment.

    Args:
        config: the config of the run.
        folder: the folder to make; None: `runs/<task>-<n>` with the first n that is free.

    Raises:
        RunError: the folder is not empty, or there is a file of that name.
        ValueError: checkpoints cannot be written to such a path.
    """
    check_path(ROOT if folder is None else Path(folder))
    made = True
    if folder is None:
        folder = free_folder(ROOT, config.task.name)
    else:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            made = False
            # An empty folder is taken: a process was killed, or the disk was full, after making it.
            if not folder.is_dir() or any(not x.name.startswith(".") for x in folder.iterdir()):
                raise RunError(
                    f"{folder} exists already: take another name, or continue it with --resume"
                ) from None
    try:
        return complete_run(config, folder)
    except BaseException:
        if made and not has_config(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def complete_run(config: ExperimentConfig, folder: Path) -> Run:
    """Opens the run of a folder, and writes its config and environment if they are missing.

    Raises:
        RunError: the folder holds another config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not has_config(folder):
        store_config(config, folder)
    else:
        try:
            same = stored_config(folder) == config
        except ConfigError as error:
            raise RunError(str(error)) from None
        if not same:
            raise RunError(f"{folder} holds another config than belongs there: move it away")
    if not (folder / "environment.json").exists():
        environment = {**read_environment(), "xla_flags": os.environ.get("XLA_FLAGS", "")}
        write_json(folder / "environment.json", environment)
    return Run(folder, config)


def starting_model(config: ExperimentConfig) -> Any:
    """Makes the model that training starts from, with new parameters or those of another run.

    Raises:
        RunError: the other run is missing, has no checkpoint, or has other parameters.
        ValueError: see `new_model`.
    """
    model = new_model(config)
    if config.initial_run is None:
        return model
    folder = Path(config.initial_run)
    source = Run(folder, config)
    try:
        found = source.checked(load_parameters(model, source.checkpoints))
    except (FileNotFoundError, ValueError, CorruptCheckpointError) as error:
        raise RunError(f"training cannot start from run {folder}: {error}") from None
    if found.passed_over:
        raise RunError(f"training cannot start from run {folder}: {found.passed_over[0]}")
    return model
