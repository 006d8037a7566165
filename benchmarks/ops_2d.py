"""Times our forms and the published form of the 2D op in four orientations, forward and backward.

python benchmarks/ops_2d.py                    grids of 12 x 12, 24 x 24 and 56 x 56
python benchmarks/ops_2d.py --tiles            several sides of a tile, at 24 x 24 and 56 x 56
python benchmarks/ops_2d.py --forms published triton --batch 384    only these

The sizes are DK = DV = 64, as in the published vision models (3 heads of 64), and J = 1 for all
letters. The type is float32. The published form pads the grid to a square whose side is a power of
two. Forms that would need more than `--gib` (4) of memory are left out. At 12 x 12 all forms are
compared with the recurrence.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from measure import measure, write
from published_2d import published

from plstm_seq.ops import plstm_2d_oriented
from plstm_seq.ops.grid import chunkwise
from plstm_seq.ops.grid.api import IMPLEMENTATIONS
from plstm_seq.ops.grid.inputs import Inputs
from plstm_seq.ops.grid.triton import MAX_CELLS, MAX_ROWS

GRIDS = (12, 24, 56)
DK, DV = 64, 64


def make(side: int, batch: int, J: int = 1) -> tuple[Inputs, jax.Array]:
    """Draw P-mode arguments (a = 1/2), gates [N, 4, X, Y, ...], and a cotangent of the output."""
    keys = iter(jax.random.split(jax.random.key(0), 16))

    def draw(*shape: int, orientations: int | None = 4) -> jax.Array:
        axes = () if orientations is None else (orientations,)
        return jax.random.normal(next(keys), (batch, *axes, side, side, *shape))

    def transition() -> jax.Array:
        return 0.5 * jnp.linalg.qr(draw(J, J))[0]

    inputs = Inputs(
        query=draw(DK, 1, orientations=None),
        key=draw(DK, 1, orientations=None),
        value=draw(DV, J, orientations=None),
        source_right=draw(J, 1, J),
        source_down=draw(J, 1, J),
        transition_rl=transition(),
        transition_du=transition(),
        transition_dl=transition(),
        transition_ru=transition(),
        mark_left=draw(J, 1, J),
        mark_up=draw(J, 1, J),
        direct=draw(J, 1, 1, J, orientations=None),
    )
    return inputs, draw(DV, J, orientations=None)


def ours(implementation: str) -> Callable[[Inputs], jax.Array]:
    """Return a function that computes the op in four orientations."""
    return lambda inputs: plstm_2d_oriented(*inputs, implementation=implementation, scale=1.0)


def backward(function: Callable[[Inputs], jax.Array]) -> Callable:
    """Return a function that computes the outputs and the gradients of all inputs."""

    def both(inputs: Inputs, cotangent: jax.Array):
        output, vjp = jax.vjp(function, inputs)
        return output, vjp(cotangent)

    return both


def needed_gib(side: int, batch: int, name: str) -> float:
    """Estimate the GiB that a form keeps for its backward pass (gates of pairs, or states)."""
    padded = 1 << (side - 1).bit_length()
    numbers = {"published": 20 * padded**4, "recurrent": 16 * DK * DV * side**2}
    return batch * 4 * numbers.get(name, 0) / 2**30


def row(name: str, side: int, batch: int, function: Callable, checked: bool) -> dict[str, Any]:
    """Time one form at one size."""
    arguments = make(side, batch)
    if checked:
        expected = jax.jit(backward(ours("recurrent")))(*arguments)
        actual = jax.jit(backward(function))(*arguments)
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            error = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
            if not error < 1e-4:
                raise ArithmeticError(f"{name} differs from the recurrence by {error:.1e}")
    one = measure(lambda inputs, _: function(inputs), *arguments)
    both = measure(backward(function), *arguments)
    return {
        "side": side,
        "batch": batch,
        "form": name,
        "forward_ms": one.milliseconds,
        "forward_backward_ms": both.milliseconds,
        "forward_backward_temporary_mib": both.temporary_mib,
        "compile_s": both.compile_seconds,
    }


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tiles", action="store_true", help="compare sides of a tile")
    parser.add_argument("--grids", type=int, nargs="*", default=GRIDS, help="sides of the grids")
    known = ("published", *IMPLEMENTATIONS)
    parser.add_argument(
        "--forms", nargs="*", choices=known, help="forms of the op (default: all that run)"
    )
    parser.add_argument("--batch", type=int, default=3, help="images times heads")
    parser.add_argument("--gib", type=float, default=4.0, help="memory in GiB that a form may take")
    parser.add_argument("--name", help="name of the results file")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for side in arguments.grids:
        small = side <= MAX_ROWS and side**2 <= MAX_CELLS
        kernels = ("triton",) if small and jax.default_backend() == "gpu" else ()
        forms: dict[str, Callable] = {
            "published": published,
            **{name: ours(name) for name in (*kernels, "parallel", "chunkwise", "recurrent")},
        }
        sides = (None,)
        if arguments.tiles:
            forms, sides = {"chunkwise": ours("chunkwise")}, (4, 6, 8, 12)
        for name in set(arguments.forms or ()) - set(forms):
            print(f"{side:3} {name:10} left out: it does not run here at this size", flush=True)
        for name, function in forms.items():
            if arguments.forms and name not in arguments.forms:
                continue
            if needed_gib(side, arguments.batch, name) > arguments.gib:
                print(f"{side:3} {name:10} left out: too much memory", flush=True)
                continue
            for tile in sides:
                chunkwise.SIDE = tile or chunkwise.SIDE
                jax.clear_caches()
                checked = side == min(GRIDS) and name != "recurrent"
                rows.append(row(name, side, arguments.batch, function, checked))
                rows[-1] |= {"tile": tile} if tile else {}
                base = next((r for r in rows if r["side"] == side), rows[-1])
                ratio = base["forward_backward_ms"] / rows[-1]["forward_backward_ms"]
                print(
                    f"{side:3} {name:10} {tile or '':3} forward {rows[-1]['forward_ms']:8.1f} ms, "
                    f"with backward {rows[-1]['forward_backward_ms']:8.1f} ms ({ratio:5.2f}x), "
                    f"{rows[-1]['forward_backward_temporary_mib']:6.0f} MiB, "
                    f"compiled in {rows[-1]['compile_s']:.0f} s",
                    flush=True,
                )
    default = "ops_2d_tiles" if arguments.tiles else "ops_2d"
    print(write(arguments.name or default, rows, DK=DK, DV=DV, J=1, dtype="float32"))


if __name__ == "__main__":
    main()
