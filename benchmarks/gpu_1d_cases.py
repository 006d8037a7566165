"""The shapes of `gpu_1d.py`, their arguments, their least traffic and work, and the check."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.inputs import Inputs

# The permitted relative norm of the difference to the recurrence in float64, (output, gradients).
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (1e-2, 2e-2)}
# The number of steps per chunk for which FLOPs are counted, whatever an implementation uses.
CHUNK = 64


class Case(NamedTuple):
    """A shape with JK = JQ = 1 and a direct term, and the `implementations` worth timing on it."""

    name: str
    batch: tuple[int, ...]
    T: int
    DK: int
    DV: int
    J: int
    dtype: str = "bfloat16"
    implementations: tuple[str, ...] = ("mosaic_gpu", "chunkwise")

    @property
    def sizes(self) -> dict[str, Any]:
        """The columns of a row of results that describe the shape."""
        return {"batch": list(self.batch), "T": self.T, "DK": self.DK, "DV": self.DV, "J": self.J}

    @property
    def tokens(self) -> int:
        """The number of steps in all heads and sequences."""
        return math.prod(self.batch) * self.T


def cases(lengths: tuple[int, ...] = (1024, 4096, 16384, 65536)) -> list[Case]:
    """Return the cases of the grid, the most important ones first."""
    every = ("mosaic_gpu", "chunkwise", "recurrent")
    heads = (8, 8)
    target = Case("target", heads, 2048, 64, 16, 4, implementations=every)
    small = ("mosaic_gpu_small", *every)
    word = [Case(f"word {T}", (4096,), T, 2, 5, 5, implementations=small) for T in (128, 512, 32)]
    few = Case("few words", (256,), 1024, 2, 5, 5, "float32", small[:3])
    # The default model of `plstm-seq sweep`: 64 members, batches of 64, four heads.
    members = Case("members", (64, 64, 4), 40, 4, 4, 2, "float32", small)
    sweep = Case("sweep", (1024,), 64, 32, 8, 4, implementations=every)
    two = ("mosaic_gpu", "chunkwise")
    return [
        target,
        Case("diagonal", heads, 2048, 64, 64, 1),
        target._replace(dtype="float32", implementations=two),
        *(
            target._replace(name=f"T {T}", T=T, implementations=two if T < 65536 else two[:1])
            for T in lengths
        ),
        sweep,
        *word,
        few,
        members,
        *(target._replace(name=f"J {J}", J=J, implementations=two) for J in (8, 2, 1)),
        sweep._replace(dtype="float32", implementations=two),
        word[0]._replace(dtype="float32", implementations=small[:3]),
    ]


def tiny_cases() -> list[Case]:
    """Return small cases with which a test runs the same code on a CPU."""
    every = ("mosaic_gpu", "chunkwise", "recurrent")
    tiny = Case("tiny", (2, 2), 16, 4, 3, 2, "float32", implementations=every)
    word = tiny._replace(name="tiny word", dtype="bfloat16", J=3, T=13)
    return [tiny, word._replace(implementations=("mosaic_gpu_small", *every))]


@functools.partial(jax.jit, static_argnums=0)
def arguments(case: Case) -> tuple[Inputs, Array]:
    """Draw inputs, with orthogonal transitions times 0.95 to 1, and a cotangent of the output."""
    keys = jax.random.split(jax.random.key(0), 10)
    J, DK, DV = case.J, case.DK, case.DV

    def draw(index: int, *shape: int, scale: float = 1.0) -> Array:
        x = jax.random.normal(keys[index], (*case.batch, case.T, *shape), jnp.float32)
        return (scale * x).astype(case.dtype)

    size = jax.random.uniform(keys[9], (*case.batch, case.T, 1, 1), minval=0.95)
    inputs = Inputs(
        query=draw(0, DK, 1),
        key=draw(1, DK, 1),
        value=draw(2, DV, J),
        source=draw(3, J, 1, J, scale=0.3),
        transition=(size * _rotation(keys[4], (*case.batch, case.T), J)).astype(case.dtype),
        mark=draw(5, J, 1, J, scale=0.3),
        direct=draw(6, J, 1, 1, J, scale=0.3),
    )
    return inputs, draw(7, DV, J)


def _rotation(key: Array, shape: tuple[int, ...], J: int) -> Array:
    """Draw products of two reflections, [*shape, J, J] (a QR of millions of matrices is slow)."""
    a, b = jax.random.normal(key, (2, *shape, J), jnp.float32)
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))

    def outer(x: Array, y: Array) -> Array:
        return x[..., :, None] * y[..., None, :]

    inner = (a * b).sum(-1)[..., None, None]
    return jnp.eye(J) - 2 * outer(a, a) - 2 * outer(b, b) + 4 * inner * outer(a, b)


def forward(**options: Any) -> Callable:
    """Return a function that computes the op."""
    return lambda inputs, _: plstm_1d(*inputs, **options)


def forward_backward(**options: Any) -> Callable:
    """Return a function that computes the op and the gradients of all its inputs."""

    def function(inputs: Inputs, cotangent: Array) -> tuple[Array, Inputs]:
        def op(inputs: Inputs) -> Any:
            return plstm_1d(*inputs, **options)

        output, vjp = jax.vjp(op, inputs)
        return output, vjp(cotangent)[0]

    return function


def traffic(case: Case) -> tuple[int, int]:
    """Return the bytes that must be moved, forward and forward+backward.

    Every input is read once and every result is written once. In the forward pass the result is the
    output. With the backward pass, the cotangent is a further input and the gradients are further
    results.
    """
    J, DK, DV = case.J, case.DK, case.DV
    inputs, output = 2 * DK + DV * J + 4 * J * J, DV * J
    size = case.tokens * jnp.dtype(case.dtype).itemsize
    return size * (inputs + output), size * (2 * inputs + 2 * output)


def operations(case: Case) -> tuple[int, int]:
    """Return the FLOPs of the level algebra in chunks of 64 steps, forward and forward+backward.

    Only necessary work is counted: each pair b < a once, sources and marks only at the levels where
    they are used, and nothing that is masked or padded. Forward+backward counts three times that,
    without recomputation.
    """
    J, DK, DV, L = case.J, case.DK, case.DV, min(CHUNK, 1 << (case.T - 1).bit_length())
    n = L.bit_length() - 1
    pairs = (L - 1) / 2
    a_step = (
        2 * pairs * DK  # scores
        + 2 * pairs * J * DV  # scores times values
        + (n / 2 + 1) * 4 * J * J * DV  # values into sources, marks out of sums
        + 2 * 2 * DK * J * DV  # the state read and written
        + (n / 2) * 4 * J**3  # sources and marks, a level up
        + 2 * J**3  # products of transitions
        + 2 * J * J * DK * DV / L  # the state moved over a chunk
        + 2 * DK + 2 * J * J * DV  # direct
    )  # fmt: skip
    total = round(case.tokens * a_step)
    return total, 3 * total


def reference(case: Case, inputs: Inputs, cotangent: Array) -> tuple[Array, Inputs]:
    """Run the recurrence in float64 on a CPU for the few sequences that `part` keeps."""
    here, there = part(case, (inputs, cotangent)), _cpu()
    with jax.enable_x64(True), jax.default_device(there):
        wide = jax.tree.map(lambda x: jnp.asarray(jax.device_get(x), jnp.float64), here)
        program = jax.jit(forward_backward(implementation="recurrent"))
        return jax.device_get(program(*wide))


def part(case: Case, tree: Any) -> Any:
    """Return one sequence of one head, or two if they are short; sequences are independent."""
    count = 2 if case.T <= 512 else 1

    def cut(x: Array) -> Array:
        return x[(0,) * (len(case.batch) - 1)][: min(count, case.batch[-1])]

    return jax.tree.map(cut, tree)


def errors(case: Case, results: tuple[Array, Inputs], expected: Any) -> dict[str, float]:
    """Return the relative errors of the output and of each gradient."""
    output, gradients = part(case, results)
    pairs = zip(Inputs._fields, gradients, expected[1], strict=True)
    found = {name: relative(a, b) for name, a, b in pairs}
    return {"output": relative(output, expected[0]), **found}


def relative(actual: Array, expected: Any) -> float:
    """Divide the norm of the difference by that of the expected array, in float64 on the host."""
    difference = jax.device_get(actual).astype("float64") - expected
    return float((difference**2).sum() ** 0.5 / (expected**2).sum() ** 0.5)


def failures(case: Case, found: dict[str, float]) -> list[str]:
    """Describe the errors that exceed the tolerance."""
    one, gradient = TOLERANCES[case.dtype]
    return [
        f"{name} {error:.1e}"
        for name, error in found.items()
        if not error <= (one if name == "output" else gradient)
    ]


def _cpu() -> Any:
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        return jax.devices()[0]
