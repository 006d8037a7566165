"""What a run begins with: its folder, the machine that it is made on, and its first parameters."""

import os
import shutil
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, ExperimentConfig
from experiments.config_files import has_config, store_config, stored_config
from experiments.files import RunError, free_folder, write_json
from experiments.run import ROOT, Run, new_model, read_environment
from plstm_seq.training import CorruptCheckpointError, load_parameters
from plstm_seq.training.disk import check_path


def create_run(config: ExperimentConfig, folder: str | Path | None) -> Run:
    """Makes the folder of a new run, with its config and environment.

    Args:
        config: of the run.
        folder: where; None: `runs/<task>-<n>` with the first n that is free.

    Raises:
        RunError: there is something at that place.
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
            # A process was killed, or the disk was full, before anything was in it.
            if not folder.is_dir() or any(not x.name.startswith(".") for x in folder.iterdir()):
                raise RunError(
                    f"{folder} exists already: take another name, or continue it with --resume"
                ) from None
    try:
        return complete_run(config, folder)
    except OSError:
        if made and not has_config(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def complete_run(config: ExperimentConfig, folder: Path) -> Run:
    """The run of a folder; config and environment are written where they are missing.

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
    """The model that training starts from: as `new_model`, or with the parameters of another run.

    Raises:
        RunError: there is no such run, or it has no checkpoint or other parameters.
        ValueError: as `new_model`.
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
