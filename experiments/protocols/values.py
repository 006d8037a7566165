"""What has been measured for a protocol: the cells that were begun, and the numbers of each."""

import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars

from experiments.files import DamagedError, read_json
from experiments.protocols.protocol import RATE, Measure, Protocol
from experiments.reading import ConfigError
from experiments.sweeps.folder import ROOT
from plstm_seq.evaluation import MIXTURE, horizon, scaled

ABOUT = "protocol.json"
"""The name of a file in the folder of a cell's sweep; see `About`."""
_BLOCKS = "model.num_blocks"


class About(NamedTuple):
    """What a file in the folder of a cell says about the cell.

    Attributes:
        protocol: the name of the protocol.
        task: the name of the task in the protocol.
        model: the model as it was asked for.
        scale: the factor of steps and warm-up; 1: as published.
        date: the day on which the cell was begun.
    """

    protocol: str
    task: str
    model: str
    scale: float
    date: str


def begun(protocol: str) -> list[tuple[Path, About]]:
    """Returns the cells of a protocol with a folder in `sweeps/`, and what is known about each.

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
            about = read_json(file, About, "delete it, and run the cell again")
        except DamagedError as error:
            warnings.warn(f"{error} (the cell is left out)", RuntimeWarning, stacklevel=2)
        else:
            found.append((file.parent, about))
    return found


def check_scale(scale: float) -> None:
    """Raises an error for a number that steps cannot be multiplied by.

    Raises:
        ConfigError: the number is not above 0 and up to 1.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"scale: got {scale:g}, expected a number above 0, up to 1")


class Number(NamedTuple):
    """One of our numbers.

    Attributes:
        length: the published length of the number; None: it belongs to all lengths.
        statistic: the name of the statistic.
        value: the number; None: no member has one, or no depth is sufficient.
        spread: the spread of the members at that learning rate, if the statistic has one.
        rate: the learning rate that was chosen.
        members: the number of members that there should be.
        n: the number of members that have been evaluated.
    """

    length: int | None
    statistic: str
    value: float | None
    spread: float | None
    rate: float | None
    members: int
    n: int


class Reading(NamedTuple):
    """A measured value of one member."""

    length: int | None
    rate: float
    blocks: int
    value: float


def numbers(protocol: Protocol, task: str, frame: polars.DataFrame) -> list[Number]:
    """Computes the numbers of a cell.

    Each statistic is over the seeds at one learning rate: the rate at which it is highest, as in
    papers that report the best of several rates. For a depth, the number is the fewest blocks with
    which any member reaches the threshold.

    Args:
        protocol: the protocol, which has the measure.
        task: the task's name in the protocol.
        frame: the table of `gather`; if there are several sweeps of the cell, one below the other.
    """
    frame = _without_twins(frame)
    readings = list(_readings(protocol, task, frame))
    lengths = _lengths(protocol, frame)
    measured = frame.drop_nulls("metric")["member"].n_unique()
    found = []
    for length in lengths:
        own = [reading for reading in readings if reading.length == length]
        # Where each member is trained for one length, only members of this length are counted.
        members, n = frame["member"].n_unique(), measured
        if protocol.measure.kind == "depth":
            of_length = frame.filter(trained_length=length)
            members, n = of_length["member"].n_unique(), len(own)
        found += [
            Number(length, name, *_number(own, name, protocol.measure), members, n)
            for name in protocol.statistics
        ]
    return found


def _without_twins(frame: polars.DataFrame) -> polars.DataFrame:
    """Keeps one of several members with the same config: an evaluated one, if there is any."""
    config = [name for name in frame.columns if name.startswith(("task.", "model.", "training."))]
    keys = [*config, "seed"]
    evaluated = polars.col("metric").is_not_null().cast(polars.Int8)
    first = (
        frame.select("member", *keys, evaluated.alias("evaluated"))
        .unique(maintain_order=True)
        .sort("evaluated", descending=True, maintain_order=True)
        .unique(subset=keys, keep="first", maintain_order=True)
    )
    return frame.filter(polars.col("member").is_in(first["member"].to_list()))


def _lengths(protocol: Protocol, frame: polars.DataFrame) -> Sequence[int | None]:
    measure = protocol.measure
    if measure.kind == "depth":
        return frame["trained_length"].unique().sort().to_list()
    if measure.kind == "lengths":
        return [int(length) for length in protocol.config["evaluation.lengths"]]
    return [None]


def _readings(protocol: Protocol, task: str, frame: polars.DataFrame) -> Iterator[Reading]:
    measure, about_task = protocol.measure, protocol.task(task)
    lengths = _lengths(protocol, frame)
    published = {about_task.length(length): length for length in lengths if length is not None}
    metric = MIXTURE + measure.metric if measure.kind == "mixture" else measure.metric
    rows = frame.filter(polars.col("metric") == metric)
    for member in rows["member"].unique(maintain_order=True).to_list():
        own = rows.filter(polars.col("member") == member).sort("length")
        about = own.row(0, named=True)
        values = dict(zip(own["length"].to_list(), own["value"].to_list(), strict=True))
        for length, value in _of_member(measure, values, about["trained_length"]):
            if measure.scaled:
                value = scaled(value, about_task.chance or 0.0)
            known = None if length is None else published.get(length)
            yield Reading(known, about[RATE], about[_BLOCKS], value)


def _of_member(
    measure: Measure, values: Mapping[int, float], trained: int
) -> Iterator[tuple[int | None, float]]:
    if measure.kind == "horizon":
        yield None, horizon(list(values), list(values.values()), measure.threshold).length
    elif measure.kind == "mixture":
        yield None, next(iter(values.values()))
    elif measure.kind == "depth":
        if trained in values:
            yield trained, values[trained]
    else:
        yield from values.items()


def _number(
    readings: Sequence[Reading], statistic: str, measure: Measure
) -> tuple[float | None, float | None, float | None]:
    """Returns a statistic, its spread and its learning rate."""
    if statistic == "depth":
        enough = [one for one in readings if one.value >= measure.threshold]
        least = min(enough, key=lambda one: one.blocks, default=None)
        return (None, None, None) if least is None else (least.blocks, None, least.rate)
    by_rate: dict[float, list[float]] = {}
    for reading in readings:
        by_rate.setdefault(reading.rate, []).append(reading.value)
    best: tuple[float | None, float | None, float | None] = (None, None, None)
    for rate, values in by_rate.items():
        value, spread = _STATISTICS[statistic](values)
        if best[0] is None or value > best[0]:
            best = (value, spread, rate)
    return best


def _best(values: Sequence[float]) -> tuple[float, float | None]:
    return max(values), None


def _median(values: Sequence[float]) -> tuple[float, float | None]:
    middle = statistics.median(values)
    return middle, statistics.median(abs(value - middle) for value in values)


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


_STATISTICS = {"best": _best, "median": _median, "mean": _mean}
