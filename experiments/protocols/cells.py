"""A cell of a protocol's table: one model on one task, as a sweep over seeds and learning rates.

A model is a mixer by its kind, with fields that are set in it.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from experiments.config import ConfigError, ExperimentConfig, default_config, to_document
from experiments.files import DamagedError, read_json, write_whole
from experiments.overrides import assign, default_fields, kinds_at, parse_assignment, resolve
from experiments.presets import protocol_model, scaled_training
from experiments.protocols.protocol import RATE, Protocol, ProtocolTask
from experiments.run import RunError
from experiments.sweeps import Sweep, SweepFolder, create_sweep, plan, product, run_sweep, vary
from experiments.sweeps.executors import Executor
from experiments.sweeps.folder import ROOT
from experiments.sweeps.values import read_values
from plstm_seq.training import ByAccuracy, Sizes, Staged, TrainingConfig, Uniform
from tasks.options import nearest

ABOUT = "protocol.json"
PLSTM = "plstm"
_LONGEST_NAME = 100
_MIXER = ("model", "mixer")
# A comma that ends a field's value: the next field follows.
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
    """The mixers that a model of a protocol may have, besides those that the protocol names.

    Example:
        >>> from experiments.protocols import load, mixers
        >>> mixers(load("chomsky_regular"))[0], "lstm" in mixers(load("chomsky_regular"))
        ('plstm', True)
    """
    task = next(iter(protocol.tasks.values()))
    config = default_config(task.name, **task.options)
    kinds = kinds_at(_MIXER, {"model": {"kind": config.model.kind}})
    return [PLSTM, *(kind for kind in kinds if kind != PLSTM)]


def model(protocol: Protocol, text: str, words: Sequence[str] = ()) -> Model:
    """The model that a text describes.

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
    """Select the fields that a config has, out of some fields.

    Raises:
        ConfigError: a field is one that no mixer has, either.
    """
    document = to_document(config)
    classes = kinds_at(_MIXER, document).values()
    elsewhere = {field for cls in classes for field in default_fields(cls)}
    kept = {}
    for name, value in sizes.items():
        try:
            resolve(document, tuple(name.split(".")))
        except ConfigError:
            if name not in elsewhere:
                raise
        else:
            kept[name] = value
    return kept


class About(NamedTuple):
    """What a file in the folder of a cell says of it.

    Attributes:
        protocol: the name of the protocol.
        task: the name of the task in the protocol.
        model: the model as it was asked for.
        scale: the factor of steps and warm-up; 1: as published.
        date: the day on which it was begun.
    """

    protocol: str
    task: str
    model: str
    scale: float
    date: str


_ABOUT = pydantic.TypeAdapter(About)


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
        """The folder of its sweep: `sweeps/PROTOCOL/SCALE/MODEL/TASK`."""
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
        """Its members: every seed at every learning rate (and what else the protocol varies).

        Raises:
            ConfigError: a field is unknown or has a wrong value; file and field are given.
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
        """What its members share."""
        protocol, task = self.protocol, self.protocol.task(self.task)
        file, own = protocol.file, f"tasks.{self.task}"
        with _blamed(f"{file}: {own}"):
            config = default_config(task.name, **task.options)
        training = TrainingConfig()
        if isinstance(config.training.curriculum, Sizes):  # the only kind that its task takes
            training = replace(training, curriculum=config.training.curriculum)
        else:  # one model for all tasks, where the defaults differ from task to task
            config = replace(config, model=protocol_model())
        config = replace(config, training=training)
        if self.model.mixer is not None:  # another kind, in its default sizes
            config = assign(config, [(_MIXER, self.model.mixer)])
        with _blamed(f"{file}: model"):
            config = _assigned(config, known_sizes(config, protocol.model))
        for where, fields in (
            ("config", protocol.config),
            (f"models.{self.model.name}", self.model.fields),
            (f"{own}.fields", task.fields),
        ):
            with _blamed(f"{file}: {where}"):
                config = _assigned(config, fields)
        with _blamed(f"{file}: {own}.offset"):
            config = _our_lengths(config, task)
        config = replace(config, training=scaled_training(config.training, self.scale))
        return assign(config, self.model.words)

    @property
    def about(self) -> About:
        """What is written of it into its folder."""
        today = datetime.now(UTC).date().isoformat()
        return About(self.protocol.name, self.task, self.model.text, self.scale, today)

    def create(self) -> SweepFolder:
        """The folder of its sweep; what is there of it is kept.

        Raises:
            ConfigError: see `sweep`.
            RunError: something else is there.
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


def begun(protocol: str) -> list[tuple[Path, About]]:
    """The cells of a protocol that have a folder in `sweeps/`, and what is known of each.

    A cell whose file is damaged is left out, with a warning.

    Example:
        >>> from experiments.protocols import begun, cells, load
        >>> (cell,) = cells(load("chomsky_regular"), models=["lstm"], tasks=["parity"], scale=0.01)
        >>> _ = cell.create()
        >>> [(about.model, about.task, about.scale) for folder, about in begun("chomsky_regular")]
        [('lstm', 'parity', 0.01)]
    """
    found = []
    for file in sorted((ROOT / protocol).glob(f"*/*/*/{ABOUT}")):
        try:
            about = read_json(file, _ABOUT, "delete it, and run the cell again")
        except DamagedError as error:
            warnings.warn(f"{error} (the cell is left out)", RuntimeWarning, stacklevel=2)
        else:
            found.append((file.parent, about))
    return found


def check_scale(scale: float) -> None:
    """Refuses what steps cannot be multiplied by.

    Raises:
        ConfigError: it is not above 0 and up to 1.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"scale is {scale:g}: a number above 0, up to 1, is expected")


def _our_lengths(config: ExperimentConfig, task: ProtocolTask) -> ExperimentConfig:
    """The config with the lengths of our task in place of the published ones."""
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
    """Says of an error where in a protocol's file it comes from."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _safe(text: str) -> str:
    """A text as the name of a folder; two texts never share one."""
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
    """The cells of a protocol's table for some models: each of them on each task.

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
    for cell in found:  # a mistake in one should not show after hours of another
        cell.sweep  # noqa: B018 (it is made, and kept)
    return found


def run_cell(cell: Cell, *, executor: str | Executor = "local") -> Path:
    """Trains and evaluates a cell; of one that was stopped, what is left to do.

    Args:
        cell: the cell, from `cells`.
        executor: see `run_sweep`.

    Returns:
        The folder of its sweep.

    Raises:
        RunError: something else is in the folder, or a group failed.
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
    """The plan of a cell that need not have begun: its folder, members, programs and budget."""
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
