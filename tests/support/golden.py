"""Reads arrays of the published implementation: the committed files, and a full folder if named.

`tests/golden/` is always read; the folder named by `PLSTM_SEQ_GOLDEN` is read too.
"""

import filecmp
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COMMITTED = Path(__file__).parents[1] / "golden"

_GROUPS = {
    "in": "inputs",
    "param": "params",
    "out": "outputs",
    "out64": "outputs64",
    "cot": "cotangents",
    "grad": "grads",
    "grad64": "grads64",
    "grad_param": "param_grads",
    "grad64_param": "param_grads64",
}


@dataclass(frozen=True)
class Golden:
    """One golden file; every dictionary maps a name (or dotted parameter path) to an array."""

    name: str
    meta: dict[str, Any]
    inputs: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    outputs64: dict[str, np.ndarray]
    cotangents: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    grads64: dict[str, np.ndarray]
    param_grads: dict[str, np.ndarray]
    param_grads64: dict[str, np.ndarray]


@functools.cache
def folders() -> tuple[Path, ...]:
    """The folders that golden files are read from."""
    named = os.environ.get("PLSTM_SEQ_GOLDEN")
    if named and not Path(named).is_dir():
        raise FileNotFoundError(f"PLSTM_SEQ_GOLDEN names {named!r}, which is not a folder")
    return (COMMITTED, Path(named)) if named else (COMMITTED,)


def golden_files(*prefixes: str) -> list[Path]:
    """Files whose names begin with one of the prefixes, in order; copies of a file once.

    Raises:
        FileNotFoundError: a prefix matches no file, so that no family is forgotten silently.
    """
    found: dict[str, list[Path]] = {}
    for prefix in prefixes:
        matches = [path for folder in folders() for path in folder.glob(f"{prefix}*.npz")]
        if not matches:
            raise FileNotFoundError(f"no golden file begins with {prefix!r} in {folders()}")
        for path in matches:
            same = found.setdefault(path.stem, [])
            if not any(filecmp.cmp(path, other, shallow=False) for other in same):
                same.append(path)
    return [path for name in sorted(found) for path in found[name]]


@functools.cache
def load(path: Path) -> Golden:
    """Reads one golden file."""
    groups: dict[str, dict[str, np.ndarray]] = {name: {} for name in _GROUPS.values()}
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
        for key in arrays.files:
            group, _, name = key.partition("__")
            if group in _GROUPS:
                groups[_GROUPS[group]][name] = arrays[key]
    return Golden(name=path.stem, meta=meta, **groups)


def relative_error(actual, expected) -> float:
    """max |actual - expected| / max |expected| (absolute where expected is all zero)."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        raise ValueError(f"shapes differ: {actual.shape} and {expected.shape}")
    scale = np.abs(expected).max(initial=0.0)
    return float(np.abs(actual - expected).max(initial=0.0) / (scale if scale > 0 else 1.0))


def record(name: str, option: str, errors: dict[str, float]) -> None:
    """Notes a comparison for `golden_table.py`, if it listens.

    Args:
        name: of the file.
        option: which of our options the file is compared with; empty: the defaults.
        errors: relative errors; names that begin with "gradient" are gradients.
    """
    path = os.environ.get("PLSTM_SEQ_GOLDEN_RECORDS")
    if path:
        line = json.dumps({"file": name, "option": option, "errors": errors})
        with Path(path).open("a", encoding="utf-8") as records:
            records.write(line + "\n")
