"""The gates of a 2D layer in P-mode and in D-mode, for the edges to the right and down."""

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
"""A function that returns the value [B, X, Y, N, ...] of the gate with a given name."""


class EdgeGates(NamedTuple):
    """The gates of `plstm_2d` except the direct one.

    Each has the shape [B, X, Y, N, ...], with N = O * H for O orientations and H heads.
    """

    source_right: Array
    source_down: Array
    transition_rl: Array
    transition_du: Array
    transition_dl: Array | None
    transition_ru: Array | None
    mark_left: Array
    mark_up: Array


class OrientationGate(nnx.Module):
    """The share `a = sigmoid(bias + scale * weight . x / I)` of a cell's output that goes right.

    The rest goes down. With a fixed `a`, a signal moves along the direction `a : 1 - a`. Source:
    arXiv 2506.11997, section 4 on P-mode.

    Args:
        input_dim: The number of input features (I).
        count: The numbers of orientations and of heads, (O, H).
        scale: The factor of the input's part, which is also divided by I.
        bias_init: The initialiser of the bias [O, H].
        weight_init: The initialiser of the weight [O, H, I].
        dtype: The type to compute in. None means the type of the input and the parameters.
        param_dtype: The type of the parameters, `bias` [O, H] and `weight` [O, H, I].
        rngs: The random number generators for the parameters.
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
        """Compute the share [..., O * H] for every orientation and head, in float32 at least."""
        bias = self.bias[...].reshape(-1)
        x, weight = promote(x, self.weight[...].reshape(bias.size, -1), dtype=self.dtype)
        wide = accumulation_dtype(x.dtype)
        read = jnp.einsum("...i,ni->...n", x, weight, preferred_element_type=wide)
        return jax.nn.sigmoid(bias.astype(wide) + self.scale * read)


def p_gates(gate: GateOf, form: PForm) -> EdgeGates:
    """Make the gates of P-mode from a source S, a transition T, a mark and the share `a`.

    They are `S_r = a S`, `S_d = (1 - a) S`, `T_rl = T_ru = a T` and `T_dl = T_du = (1 - a) T`. If
    `|T| <= 1`, what leaves a cell sums to no more than what enters it. The form "published" has
    `1 - a S` and `1 - a T` in place of `(1 - a) S` and `(1 - a) T`.
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
    """Make the gates of D-mode, in which signals turn in only one of the two directions.

    Any two cells are then joined by at most one path, so `|T| <= 1` bounds what arrives.
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
