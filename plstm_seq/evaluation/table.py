"""Results as Parquet: rows are added to those that are there, and read as one consistent set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plstm_seq.evaluation.length import (
    AVERAGED,
    METRICS,
    MIXTURE,
    SEGMENT,
    WHOLE_MAXIMUM,
    LengthGeneralization,
    Row,
)
from plstm_seq.evaluation.snapping import SNAPPED
from plstm_seq.files import write_whole

if TYPE_CHECKING:
    import polars

Value = str | int | float | bool | None

# What a row is of. A new row replaces one that agrees with it in all of these, and no other.
MEASURED_BY = (
    "metric",
    "length",
    "start",
    "num_sequences",
    "step",
    "checkpoint",
    "evaluation_seed",
    "snap_every",
)
_PLAIN = (*METRICS, SEGMENT)
_CHECKSUM = "content_sha256"


@dataclass(frozen=True)
class Asked:
    """What an evaluation should measure.

    Attributes:
        lengths: the lengths to measure.
        num_sequences: the fewest sequences at each length.
        evaluation_seed: the seed of the sequences; None: any.
        snap_every: symbols between corrections in a second pass; None: there is no such pass.
        mixture: whether a mixture of lengths is measured, too.
        averaged: whether the averaged parameters are measured, too.
    """

    lengths: tuple[int, ...]
    num_sequences: int = 1
    evaluation_seed: int | None = None
    snap_every: int | None = None
    mixture: bool = False
    averaged: bool = False

    def is_met(self, frame: polars.DataFrame, step: int | None) -> bool:
        """Whether a file holds all of it.

        Args:
            frame: rows with the columns of `MEASURED_BY`; files of older versions lack some.
            step: the training step of the measured model; None: any.
        """
        import polars

        frame = _complete(frame)
        if step is not None:
            frame = frame.filter(polars.col("step").fill_null(step) == step)
        if self.evaluation_seed is not None:
            seed = polars.col("evaluation_seed").fill_null(self.evaluation_seed)
            frame = frame.filter(seed == self.evaluation_seed)
        if self.mixture and not frame["metric"].str.starts_with(MIXTURE).any():
            return False
        frame = frame.filter(polars.col("num_sequences") >= self.num_sequences)
        sets = frame.partition_by("num_sequences") if not frame.is_empty() else []
        return any(self._is_met_by(rows) for rows in sets)

    def _is_met_by(self, rows: polars.DataFrame) -> bool:
        """Whether all lengths are among rows of one number of sequences, corrected ones too."""
        import polars

        if not self._has_lengths(rows.filter(metric="sequence")):
            return False
        if self.averaged and not self._has_lengths(rows.filter(metric=AVERAGED + "sequence")):
            return False
        if self.snap_every is None:
            return True
        corrected = rows.filter(metric=SNAPPED + "sequence")
        every = polars.col("snap_every").fill_null(self.snap_every)  # older versions do not say
        return self._has_lengths(corrected.filter(every == self.snap_every))

    def _has_lengths(self, rows: polars.DataFrame) -> bool:
        # A model that is run on whole sequences leaves out the lengths above a limit.
        whole = "whole" in rows.columns and rows["whole"].any()
        wanted = {length for length in self.lengths if not whole or length <= WHOLE_MAXIMUM}
        return not rows.is_empty() and wanted <= set(rows["length"].to_list())


def to_frame(result: LengthGeneralization, **columns: Value) -> polars.DataFrame:
    """A result as a table: one row per length and metric.

    Args:
        result: what was measured.
        **columns: further columns with one value for all rows (seed, task, transition, ...).

    Returns:
        The fields of `Row`, then chance, confidence, chunk_size, whole, then `columns`.

    Raises:
        ValueError: one of `columns` has the name of a measured one.

    Example:
        >>> import jax
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.evaluation import size_generalization
        >>> model, sample = nnx.Embed(2, 2, rngs=nnx.Rngs(0)), tasks.GridParity().sample
        >>> result = size_generalization(model, sample, [4], chance=0.5, key=jax.random.key(0))
        >>> to_frame(result, seed=0).select("metric", "length", "num_sequences", "seed").row(-1)
        ('last', 4, 512, 0)
    """
    import polars  # here, so that evaluating without writing does not need it

    shared = {
        "chance": result.chance,
        "confidence": result.confidence,
        "chunk_size": result.chunk_size,
        "whole": result.whole,
    }
    taken = columns.keys() & (shared.keys() | set(result.rows[0]._fields))
    if taken:
        raise ValueError(f"columns: got {sorted(taken)}, expected names of no measured column")
    return polars.DataFrame([{**row._asdict(), **shared, **columns} for row in result.rows])


def write_parquet(path: str | Path, result: LengthGeneralization, **columns: Value) -> None:
    """Replaces a file by `to_frame(result, **columns)`, atomically; `add_rows` keeps other rows.

    Raises:
        ValueError: see `to_frame`.

    Example:
        >>> import jax
        >>> import tasks
        >>> import tempfile
        >>> from flax import nnx
        >>> from plstm_seq.evaluation import size_generalization
        >>> model, sample = nnx.Embed(2, 2, rngs=nnx.Rngs(0)), tasks.GridParity().sample
        >>> result = size_generalization(model, sample, [4], chance=0.5, key=jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_parquet(f"{folder}/evaluation.parquet", result, seed=0)
        ...     read_parquet(f"{folder}/evaluation.parquet")["metric"].to_list()
        ['token', 'sequence', 'last']
    """
    write_frame(Path(path), to_frame(result, **columns))


def add_rows(path: str | Path, frame: polars.DataFrame) -> None:
    """Adds rows to a file; they replace only rows of the very same measurement (`MEASURED_BY`).

    Args:
        path: the Parquet file; it need not exist yet.
        frame: from `to_frame`, with the columns of `MEASURED_BY` as far as they are known.

    Example:
        >>> import polars
        >>> import tempfile
        >>> frame = polars.DataFrame([Row("token", 16, 0, 1.0, 0.97, 1.0, 1.0, 128)._asdict()])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(2):  # of one measurement only the newest row is kept
        ...         add_rows(f"{folder}/evaluation.parquet", frame)
        ...     len(read_parquet(f"{folder}/evaluation.parquet"))
        1
    """
    import polars

    path = Path(path)
    frame = _complete(frame)
    if path.exists():
        frame = polars.concat([_complete(read_parquet(path)), frame], how="diagonal_relaxed")
    write_frame(path, frame.unique(subset=MEASURED_BY, keep="last", maintain_order=True))


def write_frame(path: Path, frame: polars.DataFrame) -> None:
    """Writes a table atomically, with a checksum of its content in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = BytesIO()
    frame.write_parquet(data, metadata={_CHECKSUM: _checksum(frame)})
    write_whole(path, data.getvalue())


def read_frame(path: Path) -> polars.DataFrame:
    """Reads a table, and compares it with its checksum where `write_frame` wrote it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table, or not the one that was written.
    """
    import polars

    # Read at once: a file that is mapped into memory may change or be cut while it is used.
    data = path.read_bytes()
    try:
        frame = polars.read_parquet(data)
        written = polars.read_parquet_metadata(BytesIO(data)).get(_CHECKSUM)
    except Exception as error:  # polars raises many types for a damaged file
        raise ValueError(f"it is no Parquet file that can be read: {error}") from None
    if written not in (None, _checksum(frame)):
        raise ValueError("its checksum is another")
    return frame


def _checksum(frame: polars.DataFrame) -> str:
    """The SHA-256 of the column names and values; the same in every version of polars."""
    import polars

    total = hashlib.sha256()
    for column in frame.iter_columns():
        total.update(f"{column.name} {len(column)}\n".encode())
        total.update(column.is_null().to_numpy().tobytes())
        if column.dtype.is_float():
            total.update(column.cast(polars.Float64).fill_null(0).to_numpy().tobytes())
        elif column.dtype.is_integer():
            total.update(column.cast(polars.Int64).fill_null(0).to_numpy().tobytes())
        else:
            total.update("\0".join(map(str, column.to_list())).encode())
    return total.hexdigest()


def read_parquet(path: str | Path) -> polars.DataFrame:
    """Read what `add_rows` or `write_parquet` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table of measured rows.

    Example:
        >>> import polars
        >>> import tempfile
        >>> frame = polars.DataFrame([Row("token", 16, 0, 1.0, 0.97, 1.0, 1.0, 128)._asdict()])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     add_rows(f"{folder}/evaluation.parquet", frame)
        ...     read_parquet(f"{folder}/evaluation.parquet")["length"].to_list()
        [16]
    """
    frame = read_frame(Path(path))
    lacking = [name for name in Row._fields if name not in frame.columns]
    if lacking:
        raise ValueError(f"it has no column {', '.join(lacking)}")
    _complete(frame)
    if not all(frame[name].dtype.is_numeric() for name in Row._fields[1:]):
        raise ValueError("a measured column holds no numbers")
    return frame


def choose_rows(
    frame: polars.DataFrame, asked: Asked | None = None, *, num_sequences: int | None = None
) -> polars.DataFrame:
    """Chooses rows of a file that belong together: one model, measured on one set of sequences.

    Only rows of the last evaluated step count. Those with the same number of sequences and seed
    are a set. The set with most of the wanted lengths, then with most sequences, is chosen, with
    its corrected and its averaged rows; of a mixture of lengths, the rows of most sequences.

    Args:
        frame: rows with the columns of `MEASURED_BY`; files of older versions lack some.
        asked: the wanted lengths, and the wanted correction; None: all that are there.
        num_sequences: choose among sets of that many sequences a length; None: among all.

    Raises:
        ValueError: there is no row of that many sequences.

    Example:
        >>> import polars
        >>> frame = polars.DataFrame({"length": [8, 64, 16], "metric": "token", "step": [1, 2, 2]})
        >>> choose_rows(frame)["length"].to_list()
        [16, 64]
    """
    import polars

    frame = _complete(frame)
    frame = _of_last_model(frame)
    plain = frame.filter(polars.col("metric").is_in(_PLAIN))
    if num_sequences is not None:
        known = plain["num_sequences"].unique().sort().to_list()
        plain = plain.filter(polars.col("num_sequences") == num_sequences)
        if plain.is_empty():
            raise ValueError(
                f"num_sequences: got {num_sequences}, expected a number of sequences a length that "
                f"was measured: {', '.join(map(str, known)) or 'none'}"
            )
    plain, chosen = _fullest(plain, ("num_sequences", "evaluation_seed"), asked)
    same = [polars.col(name).eq_missing(polars.lit(value)) for name, value in chosen.items()]
    averaged = frame.filter(polars.col("metric").str.starts_with(AVERAGED), *same)
    corrected = frame.filter(polars.col("metric").str.starts_with(SNAPPED), *same)
    if asked is not None and asked.snap_every in corrected["snap_every"].to_list():
        corrected = corrected.filter(polars.col("snap_every").eq_missing(asked.snap_every))
    corrected, _ = _fullest(corrected, ("snap_every",), asked)
    mixture = frame.filter(polars.col("metric").str.starts_with(MIXTURE))
    mixture = mixture.filter(polars.col("num_sequences") == polars.col("num_sequences").max())
    mixture = mixture.unique(subset=("metric",), keep="last", maintain_order=True)
    rows = polars.concat([plain, averaged, corrected, mixture])
    return rows.sort("length", maintain_order=True) if chosen else rows


def complete_sets(frame: polars.DataFrame, asked: Asked) -> set[int]:
    """The numbers of sequences a length with which all wanted lengths have been measured.

    Args:
        frame: rows with the columns of `MEASURED_BY`; files of older versions lack some.
        asked: the wanted lengths, and the seed of their sequences.

    Example:
        >>> import polars
        >>> measured = {"metric": "sequence", "num_sequences": [128, 512, 512]}
        >>> frame = polars.DataFrame({"length": [16, 16, 64], **measured})
        >>> complete_sets(frame, Asked((16, 64)))
        {512}
    """
    last = _of_last_model(_complete(frame))
    counts = last["num_sequences"].drop_nulls().unique().to_list()
    whole = Asked(asked.lengths, evaluation_seed=asked.evaluation_seed)
    return {n for n in counts if whole.is_met(last.filter(num_sequences=n), None)}


def filled(frame: polars.DataFrame, known: Mapping[str, int | None]) -> polars.DataFrame:
    """Fills in what rows of an older version do not say of themselves.

    Args:
        frame: rows; columns of `MEASURED_BY` that they lack are added.
        known: by column, the value that holds where the column is null; None: not known.

    Example:
        >>> import polars
        >>> filled(polars.DataFrame({"length": [16]}), {"step": 2000})["step"].to_list()
        [2000]
    """
    import polars

    values = {name: value for name, value in known.items() if value is not None}
    return _complete(frame).with_columns(polars.col(n).fill_null(x) for n, x in values.items())


def _of_last_model(frame: polars.DataFrame) -> polars.DataFrame:
    """Returns the rows of the last step, and of its checkpoints the one that was written last."""
    import polars

    if frame["step"].is_null().all():
        return frame
    frame = frame.filter(polars.col("step") == frame["step"].max())
    identities = frame["checkpoint"].drop_nulls()
    if identities.is_empty():
        return frame
    # Rows of an older version do not say; of their step there was one checkpoint.
    return frame.filter(polars.col("checkpoint").fill_null(identities[-1]) == identities[-1])


def _fullest(
    rows: polars.DataFrame, by: Sequence[str], asked: Asked | None
) -> tuple[polars.DataFrame, dict[str, Any]]:
    """Returns the set with most of the wanted lengths, then most sequences, and what it is of."""
    import polars

    def rank(own: polars.DataFrame) -> tuple[int, int, int, bool]:
        lengths = set(own["length"].to_list())
        wanted = lengths if asked is None else lengths & set(asked.lengths)
        usual = asked is not None and own["evaluation_seed"][0] == asked.evaluation_seed
        return len(wanted), own["num_sequences"][0], len(lengths), usual

    if rows.is_empty():
        return rows, {}
    best = max(rows.partition_by(by, maintain_order=True), key=rank)
    chosen = {name: best[name][0] for name in by}
    same = (polars.col(name).eq_missing(polars.lit(value)) for name, value in chosen.items())
    return rows.filter(*same), chosen


def _complete(frame: polars.DataFrame) -> polars.DataFrame:
    """With all columns of `MEASURED_BY`; files of older versions lack those of the model."""
    import polars

    kinds = {"checkpoint": polars.String, "metric": polars.String}
    return frame.with_columns(
        (polars.col(name) if name in frame.columns else polars.lit(None))
        .cast(kinds.get(name, polars.Int64))
        .alias(name)
        for name in MEASURED_BY
    )
