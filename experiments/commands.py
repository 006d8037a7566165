"""Helpers of the command line: they turn arguments into configs and folders, and prepare output."""

import json
import os
import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

import tasks
from experiments import recipes, scalars
from experiments.config import (
    ConfigError,
    ExperimentConfig,
    default_config,
    to_document,
)
from experiments.config_files import brief_yaml, read_config
from experiments.console import print_warning
from experiments.distributed import is_alone, is_first, make_mesh, wait
from experiments.new_runs import new_run, starting_model
from experiments.overrides import override, value_at
from experiments.presets import shortened
from experiments.problems.sequences import PLACES, reasons
from experiments.run import ROOT, Run, RunError, load_run
from experiments.running import fit_run
from experiments.scalars import parse_assignment
from plstm_seq.training import Tracker
from plstm_seq.training.devices import check_mesh
from tasks.options import shown

# The path of the assignment `data=...`, which may be written without `task.`.
_DATA = ("data",)


def choose_config(
    task: str | None,
    assignments: Sequence[str],
    file: Path | None,
    place: Path | None,
    resume: bool,
    start: str | None = None,
    quick: bool = False,
) -> ExperimentConfig:
    """Returns the config that the arguments of `train` ask for.

    Args:
        task: the name of the task.
        assignments: fields of the config, each as `field=value`.
        file: the file of a config, or the name of a recipe.
        place: the folder of the run.
        resume: whether to continue the run in that folder.
        start: the folder or name of a run from whose parameters training starts.
        quick: whether to shorten training, see `experiments.presets.shortened`.

    Raises:
        ConfigError, RunError: the arguments do not go together, or one is wrong.
    """
    if task is not None and "=" in task:
        task, assignments = None, [task, *assignments]
    if resume:
        if place is None:
            raise RunError("--resume needs --name or --folder: the run to continue")
        if assignments or file or start or quick:
            raise RunError(
                "--resume continues a run as it is: no fields, no --config, no --from and no "
                "--quick with it"
            )
        config = load_run(place).config
        if task not in (None, config.task.name):
            raise RunError(f"run {str(place)!r} is on task {config.task.name!r}, not {task!r}")
        return config
    if file is not None:
        config = _from_file(file, assignments)
        if task not in (None, config.task.name):
            raise ConfigError(f"{file} is for task {config.task.name!r}, not {task!r}")
    elif task is None:
        raise ConfigError("a task or --config is needed; tasks: plstm-seq tasks")
    else:
        config = default_config(task, **task_options(assignments))
    config = override(config, assignments)
    if quick:
        config = shortened(config)
    if start is not None:
        config = replace(config, initial_run=str(load_run(start).folder.resolve()))
        starting_model(config)  # raises before a folder is made
    return config


def warn_of(configs: Iterable[ExperimentConfig]) -> None:
    """Warns of settings that are allowed but hardly ever intended, once for each training."""
    for training in {config.training for config in configs}:
        warm_up, steps = training.optimizer.warmup_steps, training.steps
        if warm_up > steps:
            print_warning(
                f"warmup_steps={warm_up} is beyond the training's {steps} steps: its rate ends at "
                f"{steps / warm_up:.2g} of learning_rate={training.optimizer.learning_rate:g}"
            )


def _from_file(file: Path, assignments: Sequence[str]) -> ExperimentConfig:
    """Reads the config of a file or a recipe; assignments may name the recipe's data set."""
    options = task_options(assignments)
    if file.exists():
        return read_config(file, options)
    if str(file) not in recipes.names():
        raise ConfigError(f"--config {file}: No such file; recipes: {', '.join(recipes.names())}")
    given = dict(map(parse_assignment, assignments)).get(("training", "batch_size"))
    return recipes.read_recipe(str(file), options, given)


def task_options(assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the options of the task among the assignments; other defaults may depend on them.

    Raises:
        ConfigError: a text is not an assignment.
    """
    pairs = map(parse_assignment, assignments)
    return {path[-1]: value for path, value in pairs if path[:-1] == ("task",) or path == _DATA}


def with_generators(assignments: Sequence[str], generators: str | None) -> list[str]:
    """Returns the assignments, after new ones that set the task's group.

    The group is the one that the permutations generate. They are the symbols of the task, too,
    unless `task.generators` is assigned.

    Args:
        assignments: fields of the config, each as `field=value`.
        generators: permutations as cycles of the points 0, 1, ..., such as
            `(0 1)(2 3),(0 1 2 3 4)`; None: nothing is added.
    """
    if generators is None:
        return list(assignments)
    given = {assignment.partition("=")[0].strip() for assignment in assignments}
    symbols = [] if given & {"task.generators", "generators"} else ["task.generators=standard"]
    # The group is quoted, because its text contains commas.
    return [f"task.group={json.dumps(f'<{generators}>')}", *symbols, *assignments]


def place(name: str | None, folder: Path | None, *, root: Path = ROOT) -> Path | None:
    """Returns the folder of a run or sweep, or None if neither a name nor a folder is given.

    Args:
        name: the name of a folder in `root`.
        folder: an explicit path, which may be anywhere.
        root: `runs/` or `sweeps/`.

    Raises:
        ConfigError: both are given, or the name leads out of `root`.
    """
    if name is None:
        return folder
    if folder is not None:
        raise ConfigError("--name and --folder say the same: give one of them")
    path = Path(os.path.normpath(name))
    if not name.strip() or path.is_absolute() or path.parts[:1] in (("..",), ()):
        raise ConfigError(
            f"--name {name!r} does not lie in {root}/: a folder elsewhere is given by --folder"
        )
    return root / path


def named(folder: Path) -> str:
    """Returns the option that names a folder: `--name NAME` or `--folder PATH`, see `place`."""
    if folder.is_relative_to(ROOT):
        return f"--name {shlex.quote(str(folder.relative_to(ROOT)))}"
    return f"--folder {shlex.quote(str(folder))}"


def open_run(config: ExperimentConfig, place: Path | None, resume: bool) -> Run:
    """Opens the run to train: a new one, or the one to continue.

    Raises:
        ConfigError, UnsupportedError: its model cannot be trained here; no folder is made.
        RunError: the folder exists already, or several processes train and the run has no name.
    """
    if resume and place is not None:
        return load_run(place)
    if is_alone():
        return new_run(config, place)
    if place is None:
        raise RunError("several processes train one run: name it, with --name")
    run = new_run(config, place) if is_first() else Run(place, config)
    wait("the run's folder is made")
    return run


def devices(mesh: str | None, config: ExperimentConfig) -> Mesh | None:
    """Returns the devices that every batch is split over, or None if batches are not split.

    Args:
        mesh: the text that `experiments.distributed.make_mesh` reads, or None.
        config: the config of the run; the number of devices has to divide its batch size.
    """
    if mesh is None:
        return None
    made = make_mesh(mesh)
    check_mesh(made, config.training.batch_size)
    return made


def fit_and_report(
    run: Run, trackers: Sequence[Tracker] = (), mesh: Mesh | None = None
) -> dict[str, Any]:
    """Trains a run, and returns its status and last record in one dictionary."""
    result = fit_run(run, progress=True, trackers=trackers, mesh=mesh)
    return {"status": result.status, **result.record}


def as_yaml(config: ExperimentConfig, full: bool = False) -> str:
    """Writes a config as YAML, after comments that name the rules behind its default values.

    Args:
        config: the config to write.
        full: whether all fields are written, or only those that differ from the defaults.
    """
    comments = [
        line
        for rule in _rules(config)
        for line in textwrap.wrap(rule, 96, initial_indent="# ", subsequent_indent="#   ")
    ]
    if comments:
        comments = ["# What is as by default was chosen by", *comments]
    return "\n".join([*comments, scalars.dump(to_document(config)) if full else brief_yaml(config)])


def _rules(config: ExperimentConfig) -> list[str]:
    task = config.task.make()
    if not isinstance(task, tasks.Task):
        return []
    default = default_config(config.task.name, **config.task.options)
    same = [
        name for name, path in PLACES.items() if value_at(config, path) == value_at(default, path)
    ]
    return reasons(task, same)


def parse_sizes(run: Run, **given: str | None) -> list[int] | None:
    """Reads the numbers of `--lengths`, `--sizes` or `--depths`, such as `64,256,4096`.

    Args:
        run: the run, whose inputs have either a length, a size or a depth.
        **given: the text of each option, by `length`, `size` and `depth`; None: it was not given.

    Raises:
        ConfigError: a text does not hold numbers, or its option does not suit the run's inputs.
    """
    axis = run.problem.axis
    for name, text in given.items():
        if text is not None and name != axis:
            raise ConfigError(
                f"--{name}s: got {shown(text)}, expected --{axis}s: {run.task.name} has a {axis}"
            )
    return parse_numbers(given.get(axis), f"--{axis}s")


def parse_numbers(text: str | None, option: str) -> list[int] | None:
    """Reads numbers such as `64,256,4096`; returns None if there is no text.

    Raises:
        ConfigError: the text is something else, or a number is below 1.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,14}", part.replace("_", "")) for part in parts):
        raise ConfigError(
            f"{option}: got {shown(text)}, expected numbers such as 64,256,4096, from 1 on"
        )
    return [int(part) for part in parts]
