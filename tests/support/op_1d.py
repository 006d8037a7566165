"""Random arguments for the 1D op, and the op as a function of one pytree."""

import functools

import jax
import jax.numpy as jnp
from fast_compile import fast_jit
from golden import relative_error

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.api import IMPLEMENTATIONS
from plstm_seq.ops.sequence.inputs import Inputs

# Those that run everywhere, in any type; kernels are interpreted for tests, in low precision.
PORTABLE = [name for name, form in IMPLEMENTATIONS.items() if not form.platforms]

DIMENSIONS = {
    "J1": dict(JK=1, JQ=1, JV=1, JT=1, JO=1),
    "J4": dict(JK=1, JQ=1, JV=4, JT=4, JO=4),
    "JT3_JK2_JQ2": dict(JK=2, JQ=2, JV=2, JT=3, JO=2),
    "all_differ": dict(JK=3, JQ=2, JV=4, JT=5, JO=1),
}


def transitions(key, shape, kind, dtype):
    """contractive, orthogonal, reset (15 % exact zeros, 15 % times 1e-6), identity, large."""
    a, b, c = jax.random.split(key, 3)
    matrices = jax.random.normal(a, shape, dtype)
    orthogonal, _ = jnp.linalg.qr(matrices)
    match kind:
        case "orthogonal":
            return orthogonal
        case "contractive":
            return orthogonal * jax.random.uniform(b, (*shape[:-2], 1, 1), dtype, 0.4, 0.99)
        case "reset":
            draw = jax.random.uniform(c, (*shape[:-2], 1, 1), dtype)
            factor = jnp.where(draw < 0.15, 0.0, jnp.where(draw < 0.3, 1e-6, 0.95))
            return orthogonal * factor
        case "identity":
            return jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype), shape)
        case "large":
            return orthogonal * jax.random.uniform(b, (*shape[:-2], 1, 1), dtype, 0.1, 1.5)
    raise ValueError(kind)


def make(
    length,
    dimensions="J4",
    *,
    batch=(2,),
    DK=5,
    DV=3,
    kind="contractive",
    direct=True,
    dtype=jnp.float64,
    seed=0,
):
    """Arguments of the op: `Inputs` and an initial state."""
    d = DIMENSIONS[dimensions]
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def draw(*shape, scale=1.0):
        return scale * jax.random.normal(next(keys), (*batch, *shape), dtype)

    T = length
    inputs = Inputs(
        query=draw(T, DK, d["JQ"]),
        key=draw(T, DK, d["JK"]),
        value=draw(T, DV, d["JV"]),
        source=draw(T, d["JT"], d["JK"], d["JV"], scale=0.3),
        transition=transitions(next(keys), (*batch, T, d["JT"], d["JT"]), kind, dtype),
        mark=draw(T, d["JO"], d["JQ"], d["JT"], scale=0.3),
        direct=draw(T, d["JO"], d["JQ"], d["JK"], d["JV"]) if direct else None,
    )
    return inputs, draw(DK, DV, d["JT"])


def call(inputs, initial_state=None, **options):
    """(output, last state)."""
    return _jitted_call(**options)(inputs, initial_state)


def value_and_gradients(inputs, initial_state, **options):
    """Output and last state, and the gradients of a random projection of both."""
    (_, results), gradients = _jitted_gradients(**options)(inputs, initial_state)
    return results, gradients


def _apply(inputs, initial_state, options):
    return plstm_1d(*inputs, initial_state=initial_state, return_state=True, **options)


@functools.cache
def _jitted_call(**options):
    return fast_jit(lambda inputs, state: _apply(inputs, state, options))


@functools.cache
def _jitted_gradients(**options):
    def project(inputs, initial_state):
        results = _apply(inputs, initial_state, options)
        keys = jax.random.split(jax.random.key(7), len(results))
        terms = (jnp.vdot(x, cotangent(key, x)) for key, x in zip(keys, results, strict=True))
        return sum(terms), results

    return fast_jit(jax.value_and_grad(project, argnums=(0, 1), has_aux=True))


def cotangent(key, array):
    """Random numbers that every type holds exactly, so that all types see the same ones."""
    draw = jax.random.normal(key, array.shape, jnp.float32).astype(jnp.bfloat16)
    return draw.astype(array.dtype)


def check_range(implementation, size, *, chunks=True, **options):
    """Products over a chunk of 1e38 are taken, those of 1e40 are not finite: see `plstm_1d`."""

    def run(exponent, **how):
        norm = 10 ** (exponent / size)
        turn = norm * jnp.array([[0.6, -0.8], [0.8, 0.6]], jnp.float32)
        arguments = {
            "query": jnp.ones((size, 1, 1)),
            "key": jnp.zeros((size, 1, 1)),
            "value": jnp.ones((size, 1, 1)),
            "source": jnp.zeros((size, 2, 1, 1)),
            "transition": jnp.broadcast_to(turn, (size, 2, 2)),
            "mark": jnp.ones((size, 1, 1, 2)),
            "initial_state": jnp.full((1, 1, 2), 1e-30),
        }
        arguments = {name: array.astype(jnp.float32) for name, array in arguments.items()}
        return plstm_1d(**arguments, return_state=True, **how)

    for exponent in (38, 40):
        expected = run(exponent, implementation="recurrent")
        found = run(exponent, implementation=implementation, **options)
        assert all(jnp.isfinite(array).all() for array in expected)
        if exponent == 38 or not chunks:
            assert all(relative_error(*each) < 1e-5 for each in zip(found, expected, strict=True))
        else:
            assert not jnp.isfinite(found[1]).any()
