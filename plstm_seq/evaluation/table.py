"""Results as Parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from plstm_seq.evaluation.length import LengthGeneralization

if TYPE_CHECKING:
    import polars

Value = str | int | float | bool | None


def to_frame(result: LengthGeneralization, **columns: Value) -> polars.DataFrame:
    """A result as a table: one row per length and metric.

    Args:
        result: what was measured.
        **columns: further columns with one value for all rows (seed, task, transition, ...).

    Returns:
        The fields of `Row`, then chance, confidence, chunk_size, whole, then `columns`.

    Raises:
        ValueError: one of `columns` has the name of a measured one.
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
        raise ValueError(f"columns {sorted(taken)} would overwrite measured ones of that name")
    return polars.DataFrame([{**row._asdict(), **shared, **columns} for row in result.rows])


def write_parquet(path: str | Path, result: LengthGeneralization, **columns: Value) -> None:
    """Write `to_frame(result, **columns)`, atomically: a reader sees the old file or the new one.

    Raises:
        ValueError: see `to_frame`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        to_frame(result, **columns).write_parquet(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_parquet(path: str | Path) -> polars.DataFrame:
    """Read what `write_parquet` wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    import polars

    return polars.read_parquet(path)
