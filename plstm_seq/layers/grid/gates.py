"""The gates of a 2D layer in P-mode and in D-mode: what leaves a cell to the right and down."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import accumulation_dtype, promote
from plstm_seq.layers.initializers import Initializer

Chirality = Literal["L", "R"]
PForm = Literal["shared", "published"]

GateOf = Callable[[str], Array]
"""The value of the gate with a name, [B, X, Y, N, ...]."""


class EdgeGates(NamedTuple):
    """The gates of `plstm_2d` but the direct one, each [B, X, Y, N, ...], N = O * H gates."""

    source_right: Array
    source_down: Array
    transition_rl: Array
    transition_du: Array
    transition_dl: Array | None
    transition_ru: Array | None
    mark_left: Array
    mark_up: Array


class OrientationGate(nnx.Module):
    """The share `a` of what leaves a cell to the right: `sigmoid(bias + scale * weight . x / I)`.

    Source: arXiv 2506.11997, section 4 on P-mode; with a fixed `a` a signal moves along the
    direction `a : 1 - a`.

    Args:
        input_dim: the number of input features, I.
        count: the orientations and the heads, (O, H).
        scale: what is read of the input is multiplied by this and divided by I.
        bias_init: of the bias [O, H].
        weight_init: of the weight [O, H, I].
        dtype: the type to compute in; None: that of input and parameters.
        param_dtype: the type of the parameters, `bias` [O, H] and `weight` [O, H, I].
        rngs: for the parameters.
    """

    def __init__(
        self,
        input_dim: int,
        count: tuple[int, int],
        scale: float,
        bias_init: Initializer,
        weight_init: Initializer,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.scale, self.dtype = scale / input_dim, dtype
        self.bias = nnx.Param(bias_init(rngs.params(), count, param_dtype))
        self.weight = nnx.Param(weight_init(rngs.params(), (*count, input_dim), param_dtype))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S N"]:
        """Compute the share for every gate, [..., O * H], in float32 at least."""
        bias = self.bias[...].reshape(-1)
        x, weight = promote(x, self.weight[...].reshape(bias.size, -1), dtype=self.dtype)
        wide = accumulation_dtype(x.dtype)
        read = jnp.einsum("...i,ni->...n", x, weight, preferred_element_type=wide)
        return jax.nn.sigmoid(bias.astype(wide) + self.scale * read)


def p_gates(gate: GateOf, form: PForm) -> EdgeGates:
    """P-mode: `S_r = a S`, `S_d = (1 - a) S`, `T_rl = T_ru = a T`, `T_dl = T_du = (1 - a) T`.

    With `|T| <= 1` what leaves a cell sums to no more than what came in. The form "published" has
    `1 - a S` and `1 - a T` instead.
    """
    share, source, transition = gate("orientation"), gate("source"), gate("transition")
    mark = gate("mark")
    right_source = share[..., None, None, None] * source
    right = share[..., None, None] * transition
    if form == "published":
        down_source, down = 1 - right_source, 1 - right
    else:
        down_source = (1 - share)[..., None, None, None] * source
        down = (1 - share)[..., None, None] * transition
    return EdgeGates(right_source, down_source, right, down, down, right, mark, mark)


def d_gates(gate: GateOf, chirality: Chirality) -> EdgeGates:
    """D-mode: a turn in one direction alone, so that one way alone joins two cells.

    Then `|T| <= 1` bounds what arrives.
    """
    turn = gate("transition_turn")
    return EdgeGates(
        source_right=gate("source_right"),
        source_down=gate("source_down"),
        transition_rl=gate("transition_right"),
        transition_du=gate("transition_down"),
        transition_dl=turn if chirality == "R" else None,
        transition_ru=turn if chirality == "L" else None,
        mark_left=gate("mark_left"),
        mark_up=gate("mark_up"),
    )
