"""Measures which implementation and chunk size of the 1D op is fastest on this device, per family.

A family holds the calls whose types and sizes are alike, with DK, DV, T and N rounded up to powers
of two. `plstm_1d` reads the table that is written here when a call names no implementation (see
`plstm_seq.ops.sequence.tuned`).
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from plstm_seq.ops.choice import Candidate, compute
from plstm_seq.ops.sequence import tuned
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS
from plstm_seq.ops.sequence.inputs import Inputs
from tasks.options import check

# The chunk sizes to try. Implementations that are not listed here choose their own.
CHUNK_SIZES: Mapping[str, tuple[int, ...]] = {
    "chunkwise": (8, 16, 32, 64, 128),
    "mosaic_tpu": (128, 256),
}
LONGEST_RECURRENCE = 1024
COMPILED_AT_ONCE = 8


class Shape(NamedTuple):
    """A shape to tune for; JT = JV = JO = J, JK = JQ = 1, and there is a direct term."""

    dtype: str
    J: int
    DK: int
    DV: int
    T: int
    N: int

    def arguments(self) -> Inputs:
        """Returns random arguments [N, T, ...]; their values do not change the time."""
        DK, DV, J = self.DK, self.DV, self.J
        keys = iter(jax.random.split(jax.random.key(0), 7))

        def draw(*shape: int) -> jax.Array:
            values = jax.random.normal(next(keys), (self.N, self.T, *shape), jnp.float32)
            return (0.3 * values).astype(self.dtype)

        return Inputs(
            query=draw(DK, 1),
            key=draw(DK, 1),
            value=draw(DV, J),
            source=draw(J, 1, J),
            transition=draw(J, J),
            mark=draw(J, 1, J),
            direct=draw(J, 1, 1, J),
        )


def shapes_named(name: str) -> list[Shape]:
    """Returns a set of shapes by its name.

    Args:
        name: `quick` for one shape of each kind (language, word problem, sweep), or `full` for a
            grid of shapes.

    Raises:
        ValueError: there is no such set.
    """
    if name == "quick":
        return [
            Shape("bfloat16", 4, 64, 16, 2048, 64),
            Shape("bfloat16", 5, 2, 5, 128, 4096),
            Shape("float32", 4, 32, 8, 64, 1024),
        ]
    check(name == "full", "shapes", name, "quick or full")
    dtypes = ("bfloat16", "float32")
    language = [
        *(
            Shape(dtype, J, 64, DV, 2048, 64)
            for dtype, (J, DV) in itertools.product(dtypes, ((4, 16), (1, 64), (2, 32), (8, 8)))
        ),
        *(Shape("bfloat16", 4, 64, 16, T, 64) for T in (512, 1024, 4096, 8192)),
    ]
    words = [Shape(dtype, 5, 2, 5, T, 4096) for dtype in dtypes for T in (32, 128, 512)]
    sweeps = [Shape(dtype, J, 32, 8, 64, 1024) for dtype in dtypes for J in (1, 2, 4)]
    # The default model of `plstm-seq train` and `sweep`; N is heads times batch times members.
    members = [Shape("float32", J, 4, 4, 40, N) for N in (256, 16384) for J in (1, 2, 4)]
    return language + words + sweeps + members


def candidates(shape: Shape) -> list[tuple[str, int | None]]:
    """Returns the implementations to try, each with every chunk size to try.

    The recurrence is left out for long sequences, where it takes long and is slower by far.
    """
    longest = tuned.rounded_up(shape.T)
    return [
        (name, size)
        for name in IMPLEMENTATIONS
        if name != "recurrent" or shape.T <= LONGEST_RECURRENCE
        for size in [n for n in CHUNK_SIZES.get(name, ()) if n <= longest] or [None]
    ]


def tune(
    shapes: Sequence[Shape],
    output: Path | None = None,
    *,
    announce: Callable[[str], None] = lambda _: None,
    seconds: float = 0.5,
) -> Path:
    """Times forward and backward pass of every candidate, and writes the table of this device.

    If there is a table of the same device and versions already, its families stay unless they are
    measured again. A candidate that declines or runs out of memory is left out.

    Args:
        shapes: the shapes to time, such as those of `shapes_named`.
        output: the file to write; None: the one that `plstm_1d` reads.
        announce: called with a line per measurement.
        seconds: the time that is spent on timing each candidate, in seconds.

    Returns:
        The file.

    Raises:
        ValueError: the file cannot be written.
    """
    kind = jax.devices()[0].device_kind
    path = tuned.path_of(kind) if output is None else output
    about = {"device_kind": kind, "jax": version("jax"), "jaxlib": version("jaxlib")}
    table = _earlier(path, announce) if path.exists() and _same(path, about) else {}
    try:
        tuned.write(path, table, **about)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error}): name another file") from error
    for shape in shapes:
        timings = measure(shape, announce, seconds)
        if timings:
            table[tuned.family_of(jax.eval_shape(shape.arguments))] = timings
            tuned.write(path, table, **about)
    tuned.table_of.cache_clear()
    return path


def _earlier(path: Path, announce: Callable[[str], None]) -> dict[Any, Any]:
    try:
        return dict(tuned.read(path))
    except ValueError as error:
        announce(f"replaced: {error}")
        return {}


def measure(
    shape: Shape, announce: Callable[[str], None], seconds: float
) -> tuple[tuned.Timing, ...]:
    """Times the candidates of a shape, after compiling all of them.

    Returns:
        The timings of the candidates that ran, the fastest first.
    """
    announce(f"{_words(shape)}: compiling")
    arguments = jax.block_until_ready(jax.jit(shape.arguments)())
    with ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
        programs = {
            candidate: _compiling(pool, arguments, *candidate) for candidate in candidates(shape)
        }
    timings = []
    for (name, chunk), program in programs.items():
        what = f"{_words(shape)}: {name}" + (f" {chunk}" if chunk else "")
        try:
            milliseconds = _milliseconds(program.result(), arguments, seconds)
        except Exception as reason:
            announce(f"{what}: left out, {str(reason).partition(chr(10))[0][:100]}")
            continue
        announce(f"{what}: {milliseconds:.3f} ms")
        timings.append(tuned.Timing(name, chunk, round(milliseconds, 4)))
    return tuple(sorted(timings, key=lambda timing: timing.milliseconds))


def plan(shapes: Sequence[Shape]) -> list[str]:
    """Returns what `tune` would time, one line for each measurement, without computing anything."""
    return [
        f"{_words(shape)}: {name}" + (f" {chunk}" if chunk else "")
        for shape in shapes
        for name, chunk in candidates(shape)
    ]


def _words(shape: Shape) -> str:
    return " ".join(f"{letter}={value}" for letter, value in shape._asdict().items())


def _compiling(
    pool: ThreadPoolExecutor, inputs: Inputs, name: str, chunk: int | None
) -> Future[Any]:
    """Compiles a program that computes the output and all gradients.

    If the implementation declines, `result` of the returned future raises the reason.
    """

    def function(inputs: Inputs) -> Any:
        def op(inputs: Inputs) -> Any:
            state = jnp.zeros(inputs.state_shape, inputs.accumulation_dtype)
            tried = Candidate(IMPLEMENTATIONS[name], {"chunk_size": chunk})
            return compute("plstm_1d", lambda _: [tried], inputs, state, scale=None, named=True)[0]

        output, vjp = jax.vjp(op, inputs)
        return output, vjp(inputs.value)

    try:
        lowered = jax.jit(function).lower(inputs)
    except Exception as reason:  # whatever a candidate raises, the others are still measured
        declined: Future[Any] = Future()
        declined.set_exception(reason)
        return declined
    return pool.submit(lowered.compile)


def _milliseconds(program: Callable[..., Any], inputs: Inputs, seconds: float) -> float:
    """Times a program: the mean over calls queued without waiting, and the median of three runs."""
    jax.block_until_ready(program(inputs))

    def row(calls: int) -> float:
        begin, result = time.perf_counter(), None
        for _ in range(calls):
            result = program(inputs)
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / calls

    calls = max(1, min(200, int(seconds / 3 / max(row(1), 1e-6))))
    return 1e3 * statistics.median(row(calls) for _ in range(3))


def _same(path: Path, about: dict[str, Any]) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(document, dict) and all(document.get(k) == v for k, v in about.items())
