"""A cell of a protocol's table: one model on one task, as a sweep over seeds and learning rates."""

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

from experiments.config import ConfigError, ExperimentConfig, default_config
from experiments.files import DamagedError, read_json, write_whole
from experiments.overrides import assign
from experiments.presets import protocol_model, scaled_training
from experiments.protocols.models import Model, known_sizes, with_mixer
from experiments.protocols.protocol import Protocol, ProtocolTask
from experiments.run import RunError
from experiments.sweeps import Sweep, SweepFolder, create_sweep, product, vary
from experiments.sweeps.folder import ROOT
from experiments.sweeps.values import read_values
from plstm_seq.training import ByAccuracy, Sizes, Staged, TrainingConfig, Uniform

ABOUT = "protocol.json"
_RATE = "training.optimizer.learning_rate"
_LONGEST_NAME = 100


class About(NamedTuple):
    """What the folder of a cell says of it; a file beside its sweep.

    Attributes:
        protocol: its name.
        task: its name in the protocol.
        model: as it was asked for.
        scale: of steps and warm-up; 1: as published.
        date: when it was begun.
    """

    protocol: str
    task: str
    model: str
    scale: float
    date: str


_ABOUT = pydantic.TypeAdapter(About)


@dataclass(frozen=True)
class Cell:
    """One model on one task.

    Attributes:
        protocol: of which it is a cell.
        task: its name in the protocol.
        model: what is trained.
        scale: multiplies steps and warm-up, and nothing else.
        seeds: None: as many as published.
        rates: learning rates; None: those published.
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
        """Where its sweep is: `sweeps/PROTOCOL/SCALE/MODEL/TASK`."""
        chosen = {"seeds": self.seeds, "rates": self.rates}
        other = [f"{name}={_numbers(given)}" for name, given in chosen.items() if given is not None]
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
            vary(_RATE, self.rates or protocol.rates),
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
        config = with_mixer(replace(config, training=training), self.model.mixer)
        with _blamed(f"{file}: model"):
            config = _assigned(config, known_sizes(config, protocol.model))
        with _blamed(f"{file}: config"):
            config = _assigned(config, protocol.config)
        with _blamed(f"{file}: models.{self.model.name}"):
            config = _assigned(config, self.model.fields)
        with _blamed(f"{file}: {own}.fields"):
            config = _assigned(config, task.fields)
        with _blamed(f"{file}: {own}.offset"):
            config = _our_lengths(config, task)
        config = replace(config, training=scaled_training(config.training, self.scale))
        return assign(config, self.model.words)

    @property
    def about(self) -> About:
        """What its folder says of it."""
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
    """The cells of a protocol that have a folder; one whose file is damaged is left out."""
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


def _numbers(numbers: Sequence[float]) -> str:
    return "+".join(map(str, numbers))


def _safe(text: str) -> str:
    """A text as the name of a folder; two texts never share one."""
    name = re.sub(r"[^\w.+=,-]+", "-", text, flags=re.ASCII)[:_LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
