"""A published protocol as a value: what is trained, how it is measured, what that gave.

Protocols are YAML files beside this one. Lengths in them are the published ones; where a paper
counts symbols that our task does not have (an answer, an `=`), the task says so by `offset`.
Below is what `plstm-seq protocol` prints of one, and how its arguments are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments import scalars
from experiments.console import plain_table
from experiments.reading import ConfigError, read
from experiments.sweeps.values import parse_values
from tasks.options import nearest

FOLDER = Path(__file__).parent
RATE = "training.optimizer.learning_rate"
Statistic = Literal["best", "median", "mean"]
# What a statistic is given with: the median absolute deviation, the standard deviation.
SPREADS: Mapping[str, str] = {"median": "mad", "mean": "std"}


@dataclass(frozen=True)
class Source:
    """Where a protocol was published.

    Attributes:
        paper: authors, title, number.
        section: where in it.
        repository: of its code; None: not known.
    """

    paper: str
    section: str
    repository: str | None = None


@dataclass(frozen=True)
class ProtocolTask:
    """One task of a protocol.

    Attributes:
        name: of a task of ours.
        options: of the task.
        fields: config fields of this task alone, as in `override`.
        offset: our length without the published one.
        chance: what the paper takes as chance, where it scales by it.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    offset: int = 0
    chance: float | None = None

    def length(self, published: int) -> int:
        """Our length for a published one; at least 1."""
        return max(published + self.offset, 1)


@dataclass(frozen=True)
class Measure:
    """How members become the published number.

    Attributes:
        kind: `mixture`: one accuracy over a mixture of lengths; `lengths`: one a length; `horizon`:
            the longest length such that it and all shorter ones reach `threshold`; `depth`: at each
            length the fewest blocks of which a seed reaches it.
        metric: `token`, `sequence` or `last`; of a mixture also `token_by_length`, the mean over
            lengths of the token accuracy at each.
        statistics: over seeds, each at the learning rate where it is highest; `depth` has none.
        scaled: whether chance is at 0.
        threshold: of `horizon` and `depth`.
    """

    kind: Literal["mixture", "lengths", "horizon", "depth"]
    metric: Literal["token", "sequence", "last", "token_by_length"]
    statistics: tuple[Statistic, ...] = ("best",)
    scaled: bool = False
    threshold: float = 0.9

    def __post_init__(self):
        if not self.statistics:
            raise ValueError("statistics must name one or more of best, median, mean")
        if self.metric == "token_by_length" and self.kind != "mixture":
            raise ValueError("metric token_by_length is of a mixture")
        if self.scaled and self.kind in ("horizon", "depth"):
            raise ValueError(f"scaled accuracies have no {self.kind}")


Value = float | dict[str, float]


@dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        model: as the paper calls it.
        values: by task (`task@length` where each length has a number): the first statistic, or
            several with their spreads by name.
        read: from a `table`, off a `figure` by eye, or from `memory` of the paper: check that one
            before you cite it.
        source: where it was published, if not with the protocol.
    """

    model: str
    values: dict[str, Value]
    read: Literal["table", "figure", "memory"] = "table"
    source: str | None = None


@dataclass(frozen=True)
class Protocol:
    """A published protocol.

    Attributes:
        name: the name of its file, without the ending.
        title: what it is, in one line.
        source: where it was published.
        tasks: by the names that columns have.
        config: fields of every run, as in `override`: budget, lengths, optimizer, evaluation.
        seeds: as many seeds as published; they count from 0.
        rates: the learning rates.
        measure: how the members of a cell become one number.
        published: rows to compare with.
        model: sizes that the paper gives, for every model that has the field.
        models: fields that one mixer takes here; or, under another name, a mixer (`mixer`) and its
            fields.
        vary: what else is varied, as in the YAML of a sweep.
        differences: what here is not as published.
        findings: what the paper reports without a number.
    """

    name: str
    title: str
    source: Source
    tasks: dict[str, ProtocolTask]
    config: dict[str, Any]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    measure: Measure
    published: tuple[Published, ...]
    model: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    vary: dict[str, Any] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def __post_init__(self):
        needed = {"mixture": "evaluation.mixture", "lengths": "evaluation.lengths"}
        lengths = needed.get(self.measure.kind, "evaluation.lengths")
        if lengths not in self.config and self.measure.kind != "depth":
            raise ValueError(f"config.{lengths}: needed, because of measure.kind")
        for name in ("tasks", "seeds", "rates"):
            if not getattr(self, name):
                raise ValueError(f"{name}: one or more are expected")
        if self.measure.kind == "depth" and not isinstance(self.vary.get("num_blocks"), list):
            raise ValueError("vary.num_blocks: a list is needed, because of measure.kind")
        if self.measure.scaled:
            for name, task in self.tasks.items():
                if task.chance is None:
                    raise ValueError(f"tasks.{name}.chance: needed, because the measure is scaled")
        for index, row in enumerate(self.published):
            self._check_row(f"published.{index}.values", row)

    def _check_row(self, where: str, row: Published) -> None:
        statistics = self.statistics
        known = {*statistics, *(SPREADS[name] for name in statistics if name in SPREADS)}
        for column, value in row.values.items():
            task, at, length = column.partition("@")
            if task not in self.tasks:
                raise ValueError(f"{where}.{column}: no such task; {nearest(task, self.tasks)}")
            if bool(at) != self.by_length or (at and not length.isdigit()):
                expected = "task@length" if self.by_length else "a task"
                raise ValueError(f"{where}.{column}: {expected} is expected")
            if isinstance(value, dict) and (not value or not value.keys() <= known):
                raise ValueError(f"{where}.{column}: {', '.join(sorted(known))} may be given")

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.yaml"

    @property
    def by_length(self) -> bool:
        """Whether each length has a number of its own."""
        return self.measure.kind in ("lengths", "depth")

    @property
    def statistics(self) -> tuple[str, ...]:
        """What is given for each number; of a depth there is one alone."""
        return ("depth",) if self.measure.kind == "depth" else self.measure.statistics

    def task(self, name: str) -> ProtocolTask:
        """The task of a name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.tasks:
            raise ConfigError(f"{self.name} has no task {name!r}; {nearest(name, self.tasks)}")
        return self.tasks[name]


def names(folder: Path = FOLDER) -> list[str]:
    """The names of the protocols.

    Example:
        >>> from experiments.protocols import names
        >>> "chomsky_regular" in names()
        True
    """
    return sorted(file.stem for file in folder.glob("*.yaml"))


def load(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ConfigError: there is none (the nearest names are given), or its file is wrong.

    Example:
        >>> from experiments.protocols import Protocol, load
        >>> protocol: Protocol = load("chomsky_regular")
        >>> list(protocol.tasks), protocol.seeds
        (['parity', 'modular_arithmetic', 'modular_arithmetic_brackets'], (0, 1, 2))
    """
    if name not in names():
        raise ConfigError(f"no protocol {name!r}; {nearest(name, names())}")
    return read_protocol(FOLDER / f"{name}.yaml")


def read_protocol(path: Path) -> Protocol:
    """Reads a protocol from YAML.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing or wrong.

    Example:
        A protocol of one's own, from a published one and with fewer seeds.

        >>> import tempfile
        >>> from pathlib import Path
        >>> from experiments.protocols import read_protocol
        >>> from experiments.protocols.protocol import FOLDER
        >>> text = (FOLDER / "chomsky_regular.yaml").read_text(encoding="utf-8")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.yaml")
        ...     _ = file.write_text(text.replace("seeds: [0, 1, 2]", "seeds: [0]"))
        ...     protocol = read_protocol(file)
        >>> protocol.name, protocol.seeds
        ('mine', (0,))
    """
    try:
        document = scalars.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: a mapping is expected")
    try:
        return read(Protocol, {"name": path.stem, **document})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def row(protocol: Protocol) -> dict[str, Any]:
    """A protocol in one row."""
    return {
        "name": protocol.name,
        "tasks": len(protocol.tasks),
        "seeds": len(protocol.seeds),
        "rates": len(protocol.rates),
        "title": protocol.title,
        "paper": protocol.source.paper,
    }


def list_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The protocols as a table."""
    table = plain_table("protocol", "tasks", "seeds", "rates", "what")
    table.columns[-1].justify = "left"
    for one in rows:
        numbers = (str(one[name]) for name in ("tasks", "seeds", "rates"))
        table.add_row(one["name"], *numbers, Text(one["title"]))
    return table


def describe(protocol: Protocol) -> dict[str, Any]:
    """All about a protocol but the published numbers."""
    measure = protocol.measure
    return {
        **row(protocol),
        "section": protocol.source.section,
        "repository": protocol.source.repository,
        "tasks": {name: {"name": t.name, **t.options} for name, t in protocol.tasks.items()},
        "config": dict(protocol.config),
        "model": dict(protocol.model),
        "models": {name: dict(fields) for name, fields in protocol.models.items()},
        "vary": dict(protocol.vary),
        "seeds": list(protocol.seeds),
        "rates": list(protocol.rates),
        "measure": {
            "kind": measure.kind,
            "metric": measure.metric,
            "statistics": list(protocol.statistics),
            "scaled": measure.scaled,
        },
        "published_models": list(dict.fromkeys(one.model for one in protocol.published)),
        "findings": list(protocol.findings),
        "differences": list(protocol.differences),
    }


def description(about: dict[str, Any]) -> Group:
    """A protocol for people."""
    lines = [Text(about["title"]), Text(f"{about['paper']}; {about['section']}")]
    if about["repository"]:
        lines.append(Text(about["repository"]))
    table = plain_table("field", "value")
    table.columns[-1].justify = "left"
    for name in ("tasks", "config", "model", "models", "vary", "measure"):
        for key, value in about[name].items():
            table.add_row(f"{name}.{key}", Text(str(value)))
    for name in ("seeds", "rates"):
        table.add_row(name, Text(", ".join(map(str, about[name]))))
    notes = [
        Text(line)
        for title, name in (("Found without a number", "findings"), ("Here", "differences"))
        if about[name]
        for line in (f"{title}:", *(f"- {line}" for line in about[name]))
    ]
    return Group(*lines, Text(""), table, Text(""), *notes)


def plan_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What cells would be, as a table."""
    names = ("model", "task", "members", "programs", "steps", "batch", "folder")
    table = plain_table(*names)
    for column in (table.columns[1], table.columns[-1]):
        column.justify = "left"
    for column in table.columns:
        column.overflow = "fold"
    for one in rows:
        table.add_row(*(Text(str(one[name])) for name in names))
    return table


def rates(option: str, text: str | None) -> list[float] | None:
    """`1e-3,3e-3` as numbers.

    Raises:
        ConfigError: something else.
    """
    values = None if text is None else parse_values(option, text)
    if values is None:
        return None
    if not all(isinstance(v, int | float) and v > 0 for v in values):
        raise ConfigError(f"{option} {text}: learning rates such as 1e-3,3e-3 are expected")
    return [float(value) for value in values]
