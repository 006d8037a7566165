"""Orthogonal transitions: they neither forget nor grow, whatever the length."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.initializers import FanIn, Initializer, Zeros
from plstm_seq.layers.transition.exponential import exponential_of_skew
from plstm_seq.layers.transition.parametrization import Parametrization, Quantity

Determinant = Literal["positive", "fixed", "straight_through"]


@dataclass(frozen=True)
class Orthogonal(Parametrization):
    """`exp(skew) . diag(sign, 1, ..., 1)`, orthogonal to rounding error.

    The orthogonal matrices have two components, rotations (determinant 1) and the others (-1), and
    no continuous map leads from one to the other, so the sign of the determinant is either chosen
    or found by a gradient that is not the true one:

    - "positive": every head is a rotation.
    - "fixed": the determinants of the heads are `signs`, repeated.
    - "straight_through": the sign of a further linear function of the input, per head and input,
      whose gradient is that of its tanh.

    Rotations are reached up to and beyond the angle pi (Lezcano-Casado and Martinez-Rubio,
    arXiv 1901.08428); straight-through estimators: Bengio et al., arXiv 1308.3432. With `dim = 1`
    the matrix is the sign alone.

    Attributes:
        determinant: see above.
        signs: determinants (1 or -1) of the heads for "fixed"; None: 1 and -1 in turn.
        generator_bias_init: of `generator_bias` [H, JT (JT - 1) / 2], the entries of the skew
            matrix above the diagonal, row by row: angles in radians. Zero is the identity.
        generator_weight_init: of `generator_weight` [H / S, S, JT (JT - 1) / 2, I / S]; by
            default angles of about 1 for inputs of unit variance.
        determinant_bias_init: of `determinant_bias` [H], for "straight_through".
        determinant_weight_init: of `determinant_weight` [H / S, S, I / S].
    """

    determinant: Determinant = "positive"
    signs: tuple[int, ...] | None = None
    generator_bias_init: Initializer = field(default_factory=Zeros)
    generator_weight_init: Initializer = field(default_factory=FanIn)
    determinant_bias_init: Initializer = field(default_factory=Zeros)
    determinant_weight_init: Initializer = field(default_factory=FanIn)
    kind: Literal["orthogonal"] = "orthogonal"

    def __post_init__(self):
        super().__post_init__()
        if self.determinant not in get_args(Determinant):
            raise ValueError(
                f"determinant: got {self.determinant!r}, expected one of {get_args(Determinant)}"
            )
        if self.signs is None:
            return
        if self.determinant != "fixed":
            raise ValueError(f"signs: got {self.signs}, expected None unless determinant='fixed'")
        if not self.signs or not set(self.signs) <= {1, -1}:
            raise ValueError(f"signs: got {self.signs}, expected at least one, each 1 or -1")

    def check_heads(self, num_heads: int) -> None:
        """Raise `ValueError` if there are more signs than heads."""
        super().check_heads(num_heads)
        if self.signs is not None and len(self.signs) > num_heads:
            raise ValueError(
                f"signs: got {len(self.signs)}, expected at most num_heads = {num_heads}"
            )

    def quantities(self) -> dict[str, Quantity]:
        """The generator, if there is an angle, and the sign's argument, if it is learned."""
        quantities = {}
        if self.dim > 1:
            angles = (self.dim * (self.dim - 1) // 2,)
            quantities["generator"] = Quantity(
                angles, self.generator_bias_init, self.generator_weight_init
            )
        if self.determinant == "straight_through":
            quantities["determinant"] = Quantity(
                (), self.determinant_bias_init, self.determinant_weight_init
            )
        return quantities

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Rotate, then set the determinant; see `Parametrization.matrix`."""
        if self.dim > 1:
            rotation = exponential_of_skew(skew_matrix(quantities["generator"], self.dim))
        else:
            rotation = jnp.ones((num_heads, 1, 1), jnp.float32)
        match self.determinant:
            case "positive":
                return rotation
            case "fixed":
                pattern = itertools.islice(itertools.cycle(self.signs or (1, -1)), num_heads)
                sign = jnp.array(tuple(pattern), rotation.dtype)
            case "straight_through":
                sign = straight_through_sign(quantities["determinant"])
        first = jnp.arange(self.dim) == 0
        return rotation * jnp.where(first, sign[..., None, None], 1)


def skew_matrix(entries: Float[Array, "*S P"], dim: int) -> Float[Array, "*S J J"]:
    """Place `dim (dim - 1) / 2` entries above the diagonal, row by row, and minus them below."""
    above = np.triu_indices(dim, 1)
    basis = np.zeros((len(above[0]), dim, dim))
    pairs = np.arange(len(above[0]))
    basis[pairs, *above], basis[pairs, above[1], above[0]] = 1, -1
    # Every entry of the result is one product, so only a lower precision would round.
    return jnp.einsum(
        "...p,pij->...ij",
        entries,
        jnp.asarray(basis, entries.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )


@jax.custom_jvp
def straight_through_sign(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Return the sign of x, with sign(0) = 1, exactly; differentiate as tanh."""
    return jnp.where(x >= 0, 1, -1).astype(x.dtype)


@straight_through_sign.defjvp
def _straight_through_sign_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return straight_through_sign(x), (1 - jnp.tanh(x) ** 2) * tangent
