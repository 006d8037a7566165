"""Times recurrent and chunkwise forms of the 1D op, forward and forward+backward.

python benchmarks/ops_1d.py                    every length and J, the default chunk sizes
python benchmarks/ops_1d.py --chunk-sizes      several chunk sizes, at T = 1024
python benchmarks/ops_1d.py --batch 512 --DK 4 --DV 4 --lengths 40 --name ops_1d_small
                                               64 sequences of 8 heads of a formal language

If options do not change them, the sizes are *B = 8, DK = 64, DV = 16 and JK = JQ = 1. J stands for
JT = JV = JO. The type is float32. Every program is compared with the recurrence before it is timed.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from measure import measure, write

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.inputs import Inputs


class Sizes(NamedTuple):
    """The sizes that are the same in all rows."""

    batch: int = 8
    DK: int = 64
    DV: int = 16


LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SIZES = (1, 2, 4, 8)


def make(length: int, J: int, JK: int, fixed: Sizes) -> tuple[Inputs, jax.Array]:
    """Draw arguments with orthogonal transitions times 0.99, and a cotangent of the output."""
    batch, DK, DV = fixed
    keys = jax.random.split(jax.random.key(0), 9)

    def draw(index: int, *shape: int, scale: float = 1.0) -> jax.Array:
        return scale * jax.random.normal(keys[index], (batch, length, *shape))

    transition = jnp.linalg.qr(draw(3, J, J))[0] * 0.99
    inputs = Inputs(
        query=draw(0, DK, JK),
        key=draw(1, DK, JK),
        value=draw(2, DV, J),
        source=draw(4, J, JK, J, scale=0.3),
        transition=transition,
        mark=draw(5, J, JK, J, scale=0.3),
        direct=draw(6, J, JK, JK, J, scale=0.3),
    )
    return inputs, draw(7, DV, J)


def forward(**options: Any) -> Callable:
    """Return a function that computes the op."""
    return lambda inputs, _: plstm_1d(*inputs, **options)


def backward(**options: Any) -> Callable:
    """Return a function that computes the op and the gradients of all its inputs."""

    def function(inputs: Inputs, cotangent: jax.Array):
        output, vjp = jax.vjp(lambda x: plstm_1d(*x, **options), inputs)
        return output, vjp(cotangent)

    return function


def check(arguments: tuple, options: dict[str, Any]) -> None:
    """Raise an error if a program differs from the recurrence by more than 1e-4."""
    expected = jax.jit(backward(implementation="recurrent"))(*arguments)
    actual = jax.jit(backward(**options))(*arguments)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        error = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
        if not error < 1e-4:
            raise ArithmeticError(f"{options} differs from the recurrence by {error:.1e}")


def row(
    length: int, J: int, JK: int, options: dict[str, Any], fixed: Sizes, *, checked: bool
) -> dict[str, Any]:
    """Time one implementation at one size."""
    arguments = make(length, J, JK, fixed)
    if checked:
        check(arguments, options)
    one, both = (measure(f(**options), *arguments) for f in (forward, backward))
    return {
        "T": length,
        "J": J,
        "JK": JK,
        **options,
        "forward_ms": one.milliseconds,
        "forward_backward_ms": both.milliseconds,
        "forward_temporary_mib": one.temporary_mib,
        "forward_backward_temporary_mib": both.temporary_mib,
        "compile_s": both.compile_seconds,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the last row, and its ratio to the recurrence of the same size."""
    last = rows[-1]
    same = ("T", "J", "JK")
    base = next(
        (
            r
            for r in rows
            if r["implementation"] == "recurrent" and all(r[k] == last[k] for k in same)
        ),
        last,
    )
    name = last["implementation"] + (f" {last['chunk_size']}" if "chunk_size" in last else "")
    ratios = " ".join(
        f"{last[key]:9.1f} ({base[key] / last[key]:5.2f}x)"
        for key in ("forward_ms", "forward_backward_ms")
    )
    print(
        f"T {last['T']:6} J {last['J']} JK {last['JK']} {name:14} {ratios} "
        f"{last['forward_backward_temporary_mib']:8.0f} MiB  compile {last['compile_s']:.1f} s",
        flush=True,
    )


def parallel(length: int) -> dict[str, Any]:
    """Return options with which the whole sequence is a single chunk."""
    return {"implementation": "chunkwise", "chunk_size": 1 << (length - 1).bit_length()}


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunk-sizes", action="store_true", help="compare chunk sizes")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="values of J")
    for name, default in Sizes()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--name", help="name of the results file")
    arguments = parser.parse_args()
    fixed = Sizes(arguments.batch, arguments.DK, arguments.DV)
    print("T, J, JK, implementation, ms forward, ms forward+backward (ratio to recurrent)")
    rows: list[dict[str, Any]] = []
    recurrent, chunkwise = {"implementation": "recurrent"}, {"implementation": "chunkwise"}
    if arguments.chunk_sizes:
        cases = [
            (1024, J, JK, options)
            for J, JK in (*((J, 1) for J in arguments.sizes), (4, 2))
            for options in (recurrent, *({**chunkwise, "chunk_size": n} for n in (8, 16, 32, 64)))
        ]
    else:
        sizes = [(T, J, 1) for J in arguments.sizes for T in arguments.lengths]
        cases = []
        for T, J, JK in [*sizes, *([(1024, 4, 2)] if fixed == Sizes() else [])]:
            cases += [(T, J, JK, recurrent), (T, J, JK, chunkwise)]
            if T <= 256:
                cases.append((T, J, JK, parallel(T)))
    for T, J, JK, options in cases:
        checked = T <= 1024 and options != recurrent
        rows.append(row(T, J, JK, options, fixed, checked=checked))
        show(rows)
    default = "ops_1d_chunk_sizes" if arguments.chunk_sizes else "ops_1d"
    print(write(arguments.name or default, rows, **fixed._asdict(), dtype="float32"))


if __name__ == "__main__":
    main()
