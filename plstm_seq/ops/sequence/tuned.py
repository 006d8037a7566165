"""Measured times of implementations per kind of device and family of shapes, from committed JSON.

The folder `tuned/` next to this file holds one JSON file per kind of device, which `plstm-seq tune`
writes. A family consists of the type of query, key and value, the sizes JT, JV, JO, JK and JQ, and
the sizes DK, DV, T and N = prod(*B), these four rounded up to a power of two. Its entry lists the
time of the forward and backward pass together for every implementation and chunk size that was
tried, since a call does not know whether it will be differentiated.

For other families, and for devices without a table, a heuristic decides: implementations are tried
in the order of `api.IMPLEMENTATIONS`, but those that are likely to be slow come last, and each
chooses its own chunk size (for instance `default_chunk_size` of `chunkwise`).
"""

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from plstm_seq.ops.sequence.inputs import Inputs

FOLDER = Path(__file__).with_suffix("")


class Family(NamedTuple):
    """The types and sizes of calls that share an entry; DK, DV, T and N are powers of two."""

    dtype: str
    JT: int
    JV: int
    JO: int
    JK: int
    JQ: int
    DK: int
    DV: int
    T: int
    N: int


class Timing(NamedTuple):
    """The time of forward and backward pass, in ms, for an implementation and chunk size."""

    implementation: str
    chunk_size: int | None
    milliseconds: float


Table = Mapping[Family, tuple[Timing, ...]]


def family_of(inputs: Inputs) -> Family:
    """Returns the family of a call; it looks at shapes and types alone."""
    *batch, _, DK, JQ = inputs.query.shape
    sizes = {"DK": DK, "DV": inputs.value.shape[-2], "T": inputs.length, "N": math.prod(batch)}
    return Family(
        dtype=str(jnp.result_type(inputs.query, inputs.key, inputs.value)),
        JT=inputs.transition.shape[-1],
        JV=inputs.value.shape[-1],
        JO=inputs.mark.shape[-3],
        JK=inputs.key.shape[-1],
        JQ=JQ,
        **{letter: rounded_up(size) for letter, size in sizes.items()},
    )


def rounded_up(size: int) -> int:
    """Returns the smallest power of two that is at least `size`; 1 for 0."""
    return 1 << max(size - 1, 0).bit_length()


def ranking(inputs: Inputs, device: Any) -> tuple[Timing, ...]:
    """Returns the timings of a call's family on this kind of device, the fastest first.

    The result is empty if a size is symbolic, as in a program exported for every batch or length.

    Raises:
        ValueError: the table of this device is malformed.
    """
    if not all(isinstance(size, int) for size in inputs.query.shape):
        return ()
    return table_of(device.device_kind).get(family_of(inputs), ())


def path_of(device_kind: str) -> Path:
    """Returns the path of the table of a kind of device, even if there is no such file."""
    return FOLDER / f"{re.sub('[^A-Za-z0-9.-]+', '_', device_kind).strip('_')}.json"


@functools.cache
def table_of(device_kind: str) -> Table:
    """Returns the table of a kind of device, empty if there is none; the file is read only once."""
    path = path_of(device_kind)
    return read(path) if path.exists() else {}


def read(path: Path) -> Table:
    """Reads a table from its file.

    Raises:
        ValueError: the file is not such a table; the message names the file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entries = document["entries"]
        families = [Family(**entry["family"]) for entry in entries]
        timings = [_timings(entry["timings"]) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no table of tuned sizes ({type(error).__name__}: {error}); "
            "`plstm-seq tune` writes one"
        ) from error
    return dict(zip(families, timings, strict=True))


def _timings(entries: list[dict[str, Any]]) -> tuple[Timing, ...]:
    """Returns the timings of the entries, the fastest first."""
    timings = [Timing(**entry) for entry in entries]
    for implementation, size, milliseconds in timings:
        if not isinstance(implementation, str):
            raise TypeError(f"implementation: got {implementation!r}, expected a name")
        if size is not None and (not isinstance(size, int) or size < 1 or size & (size - 1)):
            raise ValueError(f"chunk_size: got {size!r}, expected a power of two or null")
        if not isinstance(milliseconds, int | float) or not milliseconds > 0:
            raise ValueError(f"milliseconds: got {milliseconds!r}, expected a number above 0")
    return tuple(sorted(timings, key=lambda timing: timing.milliseconds))


def write(path: Path, table: Table, **about: Any) -> None:
    """Writes a table and `about`, a description of how it was measured."""
    entries = [
        {"family": family._asdict(), "timings": [timing._asdict() for timing in timings]}
        for family, timings in table.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    head = json.dumps(about, indent=1).removesuffix("}").rstrip()
    separator = "," if about else ""
    path.write_text(f'{head}{separator}\n "entries": [\n{lines}\n ]\n}}\n', encoding="utf-8")
