"""Random arguments for the 2D op, the op as a function of pytrees, and its tiles made small."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from fast_compile import fast_jit
from op_1d import cotangent, transitions

from plstm_seq.ops import plstm_2d
from plstm_seq.ops.grid import chunkwise
from plstm_seq.ops.grid.api import IMPLEMENTATIONS
from plstm_seq.ops.grid.inputs import Inputs, States

PORTABLE = [name for name, form in IMPLEMENTATIONS.items() if not form.platforms]

DIMENSIONS = {
    "J1": dict(JK=1, JQ=1, JV=1, JT=1, JO=1),
    "J2": dict(JK=1, JQ=1, JV=2, JT=2, JO=2),
    "all_differ": dict(JK=3, JQ=2, JV=4, JT=2, JO=1),
}


def make(
    X,
    Y,
    dimensions="J2",
    *,
    batch=(2,),
    DK=3,
    DV=2,
    kind="contractive",
    turns="P",
    direct=True,
    dtype=jnp.float64,
    seed=0,
):
    """Arguments of the op: `Inputs` and initial `States`; turns P, or those of chirality L or R."""
    d = DIMENSIONS[dimensions]
    draws = np.random.default_rng(seed)

    def draw(*shape, scale=1.0):
        return jnp.asarray(scale * draws.standard_normal((*batch, *shape)), dtype)

    def source():
        return draw(X, Y, d["JT"], d["JK"], d["JV"], scale=0.3)

    def mark():
        return draw(X, Y, d["JO"], d["JQ"], d["JT"], scale=0.3)

    shape = (4, *batch, X, Y, d["JT"], d["JT"])
    rl, du, dl, ru = 0.6 * _transitions(shape, kind, dtype)(jax.random.key(seed))
    inputs = Inputs(
        query=draw(X, Y, DK, d["JQ"]),
        key=draw(X, Y, DK, d["JK"]),
        value=draw(X, Y, DV, d["JV"]),
        source_right=source(),
        source_down=source(),
        transition_rl=rl,
        transition_du=du,
        transition_dl=dl if turns in ("P", "R") else None,
        transition_ru=ru if turns in ("P", "L") else None,
        mark_left=mark(),
        mark_up=mark(),
        direct=draw(X, Y, d["JO"], d["JQ"], d["JK"], d["JV"]) if direct else None,
    )
    return inputs, States(draw(Y, DK, DV, d["JT"]), draw(X, DK, DV, d["JT"]))


@functools.cache
def _transitions(shape, kind, dtype):
    return fast_jit(lambda key: transitions(key, shape, kind, dtype))


def call(inputs, initial=None, **options):
    """(output, (right, down))."""
    return _jitted_call(_side(), **options)(inputs, initial)


def value_and_gradients(inputs, initial, **options):
    """Output and last states, and the gradients of a random projection of all of them."""
    (_, results), gradients = _jitted_gradients(_side(), **options)(inputs, initial)
    return results, gradients


def apply(inputs, initial=None, return_state=True, **options):
    """The op."""
    left, top = initial or (None, None)
    return plstm_2d(
        *inputs, initial_left=left, initial_top=top, return_state=return_state, **options
    )


def _side():
    """A test that changes it gets other programs."""
    return chunkwise.SIDE


@functools.cache
def _jitted_call(side, **options):
    return fast_jit(lambda inputs, initial: apply(inputs, initial, **options))


@functools.cache
def _jitted_gradients(side, **options):
    def project(inputs, initial):
        results = apply(inputs, initial, **options)
        leaves = jax.tree.leaves(results)
        keys = jax.random.split(jax.random.key(7), len(leaves))
        terms = (jnp.vdot(x, cotangent(key, x)) for key, x in zip(keys, leaves, strict=True))
        return sum(terms), results

    return fast_jit(jax.value_and_grad(project, argnums=(0, 1), has_aux=True))
