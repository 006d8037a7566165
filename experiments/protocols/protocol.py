"""A published protocol: what is trained, how it is measured, and which numbers that gave.

Protocols are YAML files in the folder of this module. Lengths in them are the published ones. Where
a paper counts symbols that our task does not have (an answer, an `=`), the protocol gives the
difference as `offset`. The last functions print protocols for `plstm-seq protocol` and read its
arguments.
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
from tasks.options import check, nearest, shown

FOLDER = Path(__file__).parent
RATE = "training.optimizer.learning_rate"
Statistic = Literal["best", "median", "mean"]
# The spread that accompanies a statistic: median absolute deviation or standard deviation.
SPREADS: Mapping[str, str] = {"median": "mad", "mean": "std"}


@dataclass(frozen=True)
class Source:
    """Where a protocol was published.

    Attributes:
        paper: its authors, title and number.
        section: the section, table or figure.
        repository: the repository of its code; None: unknown.
    """

    paper: str
    section: str
    repository: str | None = None


@dataclass(frozen=True)
class ProtocolTask:
    """One task of a protocol.

    Attributes:
        name: the name of our task.
        options: options of our task.
        fields: config fields that are set for this task alone, by names as in `override`.
        offset: our length minus the published one.
        chance: the accuracy at chance level in the paper, if the paper scales accuracies by it.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    offset: int = 0
    chance: float | None = None

    def length(self, published: int) -> int:
        """Returns the length of our inputs for a published length; at least 1."""
        return max(published + self.offset, 1)


@dataclass(frozen=True)
class Measure:
    """How a published number is computed from the trained models of a cell.

    Attributes:
        kind: `mixture`: one accuracy over a mixture of lengths; `lengths`: an accuracy at each
            length; `horizon`: the longest length such that it and all shorter ones reach
            `threshold`; `depth`: for each length, the fewest blocks with which a seed reaches
            `threshold`.
        metric: `token`, `sequence` or `last`; for a mixture also `token_by_length`, the mean over
            lengths of the token accuracy at each length.
        statistics: the statistics over seeds, each at the learning rate where it is highest; for
            `depth` they are not used.
        scaled: whether accuracies are scaled so that chance is 0 and 1 stays 1.
        threshold: the accuracy that `horizon` and `depth` require.
    """

    kind: Literal["mixture", "lengths", "horizon", "depth"]
    metric: Literal["token", "sequence", "last", "token_by_length"]
    statistics: tuple[Statistic, ...] = ("best",)
    scaled: bool = False
    threshold: float = 0.9

    def __post_init__(self):
        given = self.statistics
        check(bool(given), "statistics", given, "one or more of best, median, mean")
        if self.metric == "token_by_length" and self.kind != "mixture":
            raise ValueError("metric token_by_length is of a mixture")
        if self.scaled and self.kind in ("horizon", "depth"):
            raise ValueError(f"scaled accuracies have no {self.kind}")


Value = float | dict[str, float]


@dataclass(frozen=True)
class Published:
    """A published row of numbers.

    Attributes:
        model: the model, as the paper calls it.
        values: the numbers, by task, or by `task@length` where each length has one. Each is the
            first statistic, or a mapping with several statistics and their spreads by name.
        read: how the numbers were read: from a `table`, by eye from a `figure`, or from `memory` of
            the paper; check the last before you cite them.
        source: where the row was published, if not with the protocol.
    """

    model: str
    values: dict[str, Value]
    read: Literal["table", "figure", "memory"] = "table"
    source: str | None = None


@dataclass(frozen=True)
class Protocol:
    """A published protocol.

    Attributes:
        name: the name of its file.
        title: what it is, in one line.
        source: where it was published.
        tasks: the tasks, by the names of the table's columns.
        config: config fields that are set for every run, by names as in `override`: budget,
            lengths, optimizer, evaluation.
        seeds: as many seeds as were published; ours count from 0.
        rates: the learning rates.
        measure: how a number is computed from the trained models.
        published: the published rows to compare with.
        model: sizes that the paper gives, set for every model that has the field.
        models: config fields by the mixer that they are set for. Any other name defines a model of
            that name by its mixer (`mixer`) and its fields.
        vary: what is varied besides seeds and rates, as in the YAML of a sweep.
        differences: what is done differently here than in the paper.
        findings: what the paper reports without a number.

    Example:
        >>> from experiments.protocols import Protocol, load
        >>> protocol: Protocol = load("chomsky_regular")
        >>> protocol.seeds, protocol.rates, protocol.measure.statistics
        ((0, 1, 2), (0.01, 0.001, 0.0005, 0.0001), ('best', 'median'))
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
            check(bool(given := getattr(self, name)), name, given, "one or more")
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
                raise ValueError(f"{where}: got {column!r}, expected {expected}")
            if isinstance(value, dict) and (not value or not value.keys() <= known):
                raise ValueError(f"{where}.{column}: {', '.join(sorted(known))} may be given")

    @property
    def file(self) -> str:
        """The name of the protocol's file."""
        return f"{self.name}.yaml"

    @property
    def by_length(self) -> bool:
        """Whether each length has a number of its own."""
        return self.measure.kind in ("lengths", "depth")

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics that the table shows: those of the measure, or only the depth."""
        return ("depth",) if self.measure.kind == "depth" else self.measure.statistics

    def task(self, name: str) -> ProtocolTask:
        """Returns the task of a name.

        Raises:
            ConfigError: there is no such task.
        """
        if name not in self.tasks:
            raise ConfigError(f"{self.name} has no task {name!r}; {nearest(name, self.tasks)}")
        return self.tasks[name]


def names(folder: Path = FOLDER) -> list[str]:
    """Returns the names of the protocols.

    Example:
        >>> from experiments.protocols import names
        >>> names()[:3]
        ['a5_length', 'arrow_pointing', 'chomsky_regular']
    """
    return sorted(file.stem for file in folder.glob("*.yaml"))


def load(name: str) -> Protocol:
    """Loads a protocol by its name.

    Raises:
        ConfigError: there is no such protocol (similar names are given), or its file is wrong.

    Example:
        >>> from experiments.protocols import load
        >>> list(load("chomsky_regular").tasks)
        ['parity', 'modular_arithmetic', 'modular_arithmetic_brackets']
    """
    if name not in names():
        raise ConfigError(f"no protocol {name!r}; {nearest(name, names())}")
    return read_protocol(FOLDER / f"{name}.yaml")


def read_protocol(path: Path) -> Protocol:
    r"""Reads a protocol from YAML.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing or wrong.

    Example:
        >>> from experiments import ConfigError
        >>> from experiments.protocols import read_protocol
        >>> _ = Path("own.yaml").write_text("title: Parity, once more\nseeds: [0, 1]\n")
        >>> try:
        ...     read_protocol(Path("own.yaml"))
        ... except ConfigError as error:
        ...     print(str(error).partition(";")[0])
        own.yaml: source: Field required
    """
    try:
        document = scalars.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: got {type(document).__name__}, expected a mapping")
    try:
        return read(Protocol, {"name": path.stem, **document})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def row(protocol: Protocol) -> dict[str, Any]:
    """Returns a protocol as one row."""
    return {
        "name": protocol.name,
        "tasks": len(protocol.tasks),
        "seeds": len(protocol.seeds),
        "rates": len(protocol.rates),
        "title": protocol.title,
        "paper": protocol.source.paper,
    }


def list_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Returns the protocols as a table."""
    table = plain_table("protocol", "tasks", "seeds", "rates", "what")
    table.columns[-1].justify = "left"
    for one in rows:
        numbers = (str(one[name]) for name in ("tasks", "seeds", "rates"))
        table.add_row(one["name"], *numbers, Text(one["title"]))
    return table


def describe(protocol: Protocol) -> dict[str, Any]:
    """Returns everything about a protocol except for the published numbers."""
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
    """Formats a protocol for people."""
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
    """Returns the plans of cells (`planned`) as a table."""
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
    """Reads learning rates such as `1e-3,3e-3`.

    Raises:
        ConfigError: the text is something else.
    """
    values = None if text is None else parse_values(option, text)
    if values is None:
        return None
    if not all(isinstance(v, int | float) and v > 0 for v in values):
        raise ConfigError(f"{option}: got {shown(text)}, expected learning rates such as 1e-3,3e-3")
    return [float(value) for value in values]
