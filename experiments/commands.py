"""What the command line does before and after the functions that it wraps."""

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

# Where the files of a task are, which is said without `task.`.
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
    """The config that the arguments of `train` ask for.

    Args:
        task: the task's name.
        assignments: fields of the config.
        file: of a config, or the name of a recipe.
        place: the folder of the run.
        resume: whether to continue it.
        start: the run from whose parameters to start.
        quick: whether to cut it, see `experiments.presets.shortened`.

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
        starting_model(config)  # before a folder is made
    return config


def warn_of(configs: Iterable[ExperimentConfig]) -> None:
    """Prints what a training allows and hardly anybody means, each once."""
    for training in {config.training for config in configs}:
        warm_up, steps = training.optimizer.warmup_steps, training.steps
        if warm_up > steps:
            print_warning(
                f"warmup_steps={warm_up} is beyond the training's {steps} steps: its rate ends at "
                f"{steps / warm_up:.2g} of learning_rate={training.optimizer.learning_rate:g}"
            )


def _from_file(file: Path, assignments: Sequence[str]) -> ExperimentConfig:
    """The config of a file or of a recipe, whose data set may be named among the assignments."""
    options = task_options(assignments)
    if file.exists():
        return read_config(file, options)
    if str(file) not in recipes.names():
        raise ConfigError(f"--config {file}: No such file; recipes: {', '.join(recipes.names())}")
    given = dict(map(parse_assignment, assignments)).get(("training", "batch_size"))
    return recipes.read_recipe(str(file), options, given)


def task_options(assignments: Sequence[str]) -> dict[str, Any]:
    """The options of the task among assignments: the defaults of all else may follow from them.

    Raises:
        ConfigError: an assignment is none.
    """
    pairs = map(parse_assignment, assignments)
    return {path[-1]: value for path, value in pairs if path[:-1] == ("task",) or path == _DATA}


def with_generators(assignments: Sequence[str], generators: str | None) -> list[str]:
    """Assignments with those before them that make the group of some permutations the task's.

    The permutations are the symbols, too, unless `task.generators` is assigned.

    Args:
        assignments: `field=value` each.
        generators: in cycles of the points 0, 1, ...: `(0 1)(2 3),(0 1 2 3 4)`; None: there are
            none.
    """
    if generators is None:
        return list(assignments)
    given = {assignment.partition("=")[0].strip() for assignment in assignments}
    symbols = [] if given & {"task.generators", "generators"} else ["task.generators=standard"]
    # Quoted: there are commas in it.
    return [f"task.group={json.dumps(f'<{generators}>')}", *symbols, *assignments]


def place(name: str | None, folder: Path | None, *, root: Path = ROOT) -> Path | None:
    """Where a run or sweep goes, by its name or by an explicit path; None: neither is given.

    Args:
        name: of a folder in `root`.
        folder: any path.
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
    """`--name NAME` or `--folder PATH`, as `place` reads it."""
    if folder.is_relative_to(ROOT):
        return f"--name {shlex.quote(str(folder.relative_to(ROOT)))}"
    return f"--folder {shlex.quote(str(folder))}"


def open_run(config: ExperimentConfig, place: Path | None, resume: bool) -> Run:
    """The run to train: a new folder, or the one to continue.

    Raises:
        ConfigError, UnsupportedError: its model cannot be trained here; no folder is made.
        RunError: the folder is there already, or one of several processes was given no name.
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
    """The devices that every batch is split over; None: it is not.

    Args:
        mesh: as of `experiments.distributed.make_mesh`.
        config: of the run, whose batches they have to divide.
    """
    if mesh is None:
        return None
    made = make_mesh(mesh)
    check_mesh(made, config.training.batch_size)
    return made


def fit_and_report(
    run: Run, trackers: Sequence[Tracker] = (), mesh: Mesh | None = None
) -> dict[str, Any]:
    """Trains a run; its status and last record."""
    result = fit_run(run, progress=True, trackers=trackers, mesh=mesh)
    return {"status": result.status, **result.record}


def as_yaml(config: ExperimentConfig, full: bool = False) -> str:
    """The config as YAML, below comments that say which rules chose what is as by default.

    Args:
        config: what is shown.
        full: whether all fields are, or those that differ from the defaults.
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
    """`64,256,4096` as numbers, given for what grows in the run's task.

    Args:
        run: says what that is: length, size or depth.
        **given: the text for each; all None: nothing is said.

    Raises:
        ConfigError: no numbers, or given for what does not grow there.
    """
    axis = run.problem.axis
    for name, text in given.items():
        if text is not None and name != axis:
            raise ConfigError(
                f"--{name}s: got {shown(text)}, expected --{axis}s: {run.task.name} has a {axis}"
            )
    return parse_numbers(given.get(axis), f"--{axis}s")


def parse_numbers(text: str | None, option: str) -> list[int] | None:
    """`64,256,4096` as numbers.

    Raises:
        ConfigError: something else, or a number below 1.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,14}", part.replace("_", "")) for part in parts):
        raise ConfigError(
            f"{option}: got {shown(text)}, expected numbers such as 64,256,4096, from 1 on"
        )
    return [int(part) for part in parts]
