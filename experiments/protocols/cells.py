"""A cell of a protocol's table: one model on one task, as a sweep over seeds and learning rates.

A model is the kind of a mixer, and the fields that are set in it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.config import ExperimentConfig, default_config
from experiments.overrides import assign, resolve
from experiments.presets import protocol_model, scaled_training
from experiments.protocols.protocol import RATE, Protocol, ProtocolTask
from experiments.protocols.values import ABOUT, About, check_scale
from experiments.reading import ConfigError, hints, kinds_of
from experiments.run import RunError
from experiments.scalars import parse_assignment
from experiments.sweeps.executors import Executor
from experiments.sweeps.folder import ROOT, SweepFolder, create_sweep
from experiments.sweeps.launch import run_sweep
from experiments.sweeps.plan import plan
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.values import product, read_values, vary
from plstm_seq.files import write_whole
from plstm_seq.training import ByAccuracy, Sizes, Staged, TrainingConfig, Uniform
from tasks.options import nearest

PLSTM = "plstm"
_LONGEST_NAME = 100
_MIXER = ("model", "mixer")
# The comma after the value of a field: another field follows it.
_BETWEEN_FIELDS = re.compile(r",(?=[\w.]+=)")

Pairs = Sequence[tuple[tuple[str, ...], Any]]


@dataclass(frozen=True)
class Model:
    """A model of a protocol.

    Attributes:
        text: the model as it was asked for, such as `plstm,transition.dim=4`.
        name: the name at the beginning of `text`.
        mixer: the kind of mixer; None: that of the task's default config, which is pLSTM.
        fields: config fields that the protocol sets for it.
        words: config fields that `text` sets.

    Example:
        >>> from experiments.protocols import Model, load, model
        >>> found: Model = model(load("chomsky_regular"), "plstm,transition.dim=4")
        >>> found.name, found.words
        ('plstm', ((('transition', 'dim'), 4),))
    """

    text: str
    name: str
    mixer: str | None
    fields: Mapping[str, Any]
    words: Pairs


def mixers(protocol: Protocol) -> list[str]:
    """Returns the mixers that a model may have, besides the models that the protocol names.

    Example:
        >>> from experiments.protocols import load, mixers
        >>> mixers(load("chomsky_regular"))[0], "lstm" in mixers(load("chomsky_regular"))
        ('plstm', True)
    """
    task = next(iter(protocol.tasks.values()))
    config = default_config(task.name, **task.options)
    return [PLSTM, *(kind for kind in _mixer_kinds(config) if kind != PLSTM)]


def _mixer_kinds(config: ExperimentConfig) -> dict[str, type]:
    """Returns the classes of the mixers that the model of a config may have."""
    return kinds_of(hints(type(config.model))["mixer"])


def model(protocol: Protocol, text: str, words: Sequence[str] = ()) -> Model:
    """Returns the model that a text describes.

    Args:
        protocol: the protocol, which may have names for models of its own.
        text: `NAME`, or `NAME,field=value,...`; the name is that of a mixer (see `mixers`) or one
            that the protocol gives.
        words: further fields, `field=value` each; they become part of the model's `text`.

    Raises:
        ConfigError: there is no such model, or a field has no value.

    Example:
        >>> from experiments.protocols import load, model
        >>> model(load("chomsky_regular"), "lstm", ["width=32"]).text
        'lstm,width=32'
    """
    name, between, rest = text.partition(",")
    inner = _BETWEEN_FIELDS.split(rest) if between else []
    known = list(dict.fromkeys([*mixers(protocol), *protocol.models]))
    if name not in known:
        raise ConfigError(f"{protocol.name} has no model {name!r}; {nearest(name, known)}")
    fields = dict(protocol.models.get(name, {}))
    mixer = str(fields.pop("mixer", name))
    if mixer not in mixers(protocol):
        raise ConfigError(
            f"{protocol.file}: models.{name}.mixer: unknown kind {mixer!r}; "
            f"{nearest(mixer, mixers(protocol))}"
        )
    assignments = (*inner, *words)
    return Model(
        ",".join((name, *assignments)),
        name,
        None if mixer == PLSTM else mixer,
        fields,
        tuple(map(parse_assignment, assignments)),
    )


def known_sizes(config: ExperimentConfig, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Selects those of some fields that a config has.

    Raises:
        ConfigError: a field is unknown to every mixer.
    """
    elsewhere = {field.name for cls in _mixer_kinds(config).values() for field in fields(cls)}
    kept = {}
    for name, value in sizes.items():
        try:
            resolve(config, tuple(name.split(".")))
        except ConfigError:
            if name not in elsewhere:
                raise
        else:
            kept[name] = value
    return kept


@dataclass(frozen=True)
class Cell:
    """A cell of a protocol's table: one model on one task.

    Attributes:
        protocol: the protocol.
        task: the name of the task in the protocol.
        model: the model that is trained.
        scale: multiplies steps and warm-up, and nothing else.
        seeds: the seeds; None: as many as published.
        rates: the learning rates; None: those published.

    Example:
        >>> from experiments.protocols import Cell, load, model
        >>> protocol = load("chomsky_regular")
        >>> cell = Cell(protocol, "parity", model(protocol, "lstm"), scale=0.01)
        >>> len(cell.sweep.settings), cell.folder  # three seeds at four learning rates
        (12, PosixPath('sweeps/chomsky_regular/scale-0.01/lstm/parity'))
    """

    protocol: Protocol
    task: str
    model: Model
    scale: float = 1.0
    seeds: tuple[int, ...] | None = None
    rates: tuple[float, ...] | None = None

    def __post_init__(self):
        check_scale(self.scale)
        self.protocol.task(self.task)

    @property
    def folder(self) -> Path:
        """The folder of the cell's sweep: `sweeps/PROTOCOL/SCALE/MODEL/TASK`."""
        chosen = {"seeds": self.seeds, "rates": self.rates}
        other = [
            f"{name}={'+'.join(map(str, given))}"
            for name, given in chosen.items()
            if given is not None
        ]
        task = ",".join((self.task, *other))
        scale = "full" if self.scale == 1 else f"scale-{self.scale}"
        return ROOT / self.protocol.name / scale / _safe(self.model.text) / _safe(task)

    @cached_property
    def sweep(self) -> Sweep:
        """The cell's sweep: every seed at every learning rate, and what the protocol varies.

        Raises:
            ConfigError: a field is unknown or has a wrong value; the error names file and field.
        """
        protocol = self.protocol
        factors = [
            vary(RATE, self.rates or protocol.rates),
            vary("seed", self.seeds or protocol.seeds),
        ]
        config = self.config
        if not protocol.vary:
            return Sweep(config, tuple(product(*factors)))
        with _blamed(f"{protocol.file}: vary"):
            varied = read_values(protocol.vary)
            for setting in varied:
                _assigned(config, setting)
        return Sweep(config, tuple(product(varied, *factors)))

    @cached_property
    def config(self) -> ExperimentConfig:
        """The config that all members of the cell share."""
        protocol, task = self.protocol, self.protocol.task(self.task)
        file, own = protocol.file, f"tasks.{self.task}"
        with _blamed(f"{file}: {own}"):
            config = default_config(task.name, **task.options)
        training = TrainingConfig()
        if isinstance(config.training.curriculum, Sizes):  # the only kind that the task accepts
            training = replace(training, curriculum=config.training.curriculum)
        else:  # all tasks get the same model, although their default models differ
            config = replace(config, model=protocol_model())
        config = replace(config, training=training)
        if self.model.mixer is not None:  # another kind of mixer, in its default sizes
            config = assign(config, [(_MIXER, self.model.mixer)])
        with _blamed(f"{file}: model"):
            config = _assigned(config, known_sizes(config, protocol.model))
        for where, given in (
            ("config", protocol.config),
            (f"models.{self.model.name}", self.model.fields),
            (f"{own}.fields", task.fields),
        ):
            with _blamed(f"{file}: {where}"):
                config = _assigned(config, given)
        with _blamed(f"{file}: {own}.offset"):
            config = _our_lengths(config, task)
        config = replace(config, training=scaled_training(config.training, self.scale))
        return assign(config, self.model.words)

    @property
    def about(self) -> About:
        """What a file in the folder says about the cell."""
        today = datetime.now(UTC).date().isoformat()
        return About(self.protocol.name, self.task, self.model.text, self.scale, today)

    def create(self) -> SweepFolder:
        """Creates the folder of the cell's sweep; existing files are kept.

        Raises:
            ConfigError: see `sweep`.
            RunError: the folder holds something else.
        """
        try:
            folder = create_sweep(self.sweep, self.folder)
        except RunError:
            raise RunError(
                f"{self.folder} holds another sweep than this cell's (the protocol has changed "
                f"since?): move it away, or go on with it by plstm-seq resume {self.folder}"
            ) from None
        if not (folder.path / ABOUT).exists():
            write_whole(folder.path / ABOUT, json.dumps(self.about._asdict(), indent=2) + "\n")
        return folder


def _our_lengths(config: ExperimentConfig, task: ProtocolTask) -> ExperimentConfig:
    """Replaces the published lengths in a config by those of our task."""
    curriculum, evaluation = config.training.curriculum, config.evaluation
    if isinstance(curriculum, Uniform):
        least, longest = map(task.length, (curriculum.minimum, curriculum.maximum))
        ours = replace(curriculum, minimum=least, maximum=longest)
    else:
        stages = tuple((task.length(longest), steps) for longest, steps in curriculum.stages)
        if isinstance(curriculum, Staged | ByAccuracy):
            ours = replace(curriculum, minimum=task.length(curriculum.minimum), stages=stages)
        else:
            ours = replace(curriculum, stages=stages)
    mixture = evaluation.mixture
    if mixture is not None:
        mixture = (task.length(mixture[0]), task.length(mixture[1]))
    return replace(
        config,
        training=replace(config.training, curriculum=ours),
        evaluation=replace(
            evaluation, lengths=tuple(map(task.length, evaluation.lengths)), mixture=mixture
        ),
    )


def _assigned(config: ExperimentConfig, fields: Mapping[str, Any]) -> ExperimentConfig:
    return assign(config, [(tuple(name.split(".")), value) for name, value in fields.items()])


@contextmanager
def _blamed(where: str) -> Iterator[None]:
    """Adds to an error the place in a protocol's file that caused it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _safe(text: str) -> str:
    """Turns a text into the name of a folder; two texts never get the same one."""
    name = re.sub(r"[^\w.+=,-]+", "-", text, flags=re.ASCII)[:_LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def cells(
    protocol: Protocol,
    *,
    models: Sequence[str] = ("plstm",),
    words: Sequence[str] = (),
    tasks: Sequence[str] | None = None,
    scale: float = 1.0,
    seeds: Sequence[int] | None = None,
    rates: Sequence[float] | None = None,
) -> list[Cell]:
    """Returns the cells of a protocol's table for some models: each of them on each task.

    Args:
        protocol: the protocol.
        models: texts that describe models, see `experiments.protocols.model`.
        words: fields that are set for every model, `field=value` each.
        tasks: names of tasks in the protocol; None: all.
        scale: multiplies steps and warm-up, but neither test lengths nor numbers of sequences.
        seeds: the seeds; None: as many as published.
        rates: the learning rates; None: those published.

    Raises:
        ConfigError: there is no such model or task, or a field or number is wrong.

    Example:
        >>> from experiments.protocols import cells, load
        >>> found = cells(load("chomsky_regular"), models=["plstm", "lstm"], tasks=["parity"])
        >>> [(cell.model.name, cell.config.training.steps) for cell in found]
        [('plstm', 100000), ('lstm', 100000)]
    """
    found = [
        Cell(
            protocol,
            task,
            model(protocol, name, words),
            scale,
            None if seeds is None else tuple(seeds),
            None if rates is None else tuple(rates),
        )
        for name in dict.fromkeys(models)
        for task in dict.fromkeys(protocol.tasks if tasks is None else tasks)
    ]
    for cell in found:  # finds a mistake in any cell before the first one trains for hours
        cell.sweep  # noqa: B018 (the property is computed and cached)
    return found


def run_cell(cell: Cell, *, executor: str | Executor = "local") -> Path:
    """Trains and evaluates a cell; if it was stopped before, does what is left to do.

    Args:
        cell: the cell, from `cells`.
        executor: see `run_sweep`.

    Returns:
        The folder of its sweep.

    Raises:
        RunError: the folder holds something else, or a group failed.
        KeyboardInterrupt: Ctrl-C; everything is saved.

    Example:
        >>> from experiments.protocols import cells, load, run_cell
        >>> small = ["width=8", "steps=2", "training.batch_size=4", "evaluation.lengths=[16]"]
        >>> few = ["evaluation.num_sequences=8", "evaluation.mixture=null"]
        >>> words = {"words": [*small, *few], "seeds": [0], "rates": [1e-3]}
        >>> (cell,) = cells(load("chomsky_regular"), models=["rnn"], tasks=["parity"], **words)
        >>> run_cell(cell) == cell.folder
        True
    """
    folder = cell.create().path
    run_sweep(folder, executor=executor)
    return folder


def planned(cell: Cell) -> dict[str, Any]:
    """Returns the plan of a cell: its folder, members, programs and budget."""
    expanded, training = plan(cell.sweep), cell.sweep.configs()[0].training
    return {
        "model": cell.model.text,
        "task": cell.task,
        "scale": cell.scale,
        "members": len(expanded.members),
        "programs": len(expanded.groups),
        "steps": training.steps,
        "batch": training.batch_size,
        "folder": str(cell.folder),
    }
