"""Families of transitions that never increase the norm of a state.

`Diagonal` has the diagonal matrices of most linear recurrent networks, `Orthogonal` has matrices
that neither forget nor grow at any length, `HouseholderProduct` has products of Householder
reflections, and `Bounded` has all matrices with a bounded spectral norm.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.arguments import require, require_above_zero, require_choice, require_count
from plstm_seq.layers.initializers import (
    Constant,
    FanIn,
    Initializer,
    Normal,
    ScaledIdentity,
    Zeros,
)
from plstm_seq.layers.transition.base import Parametrization, Quantity
from plstm_seq.layers.transition.matrices import (
    exponential_of_skew,
    reflection_product,
    singularvalue_restriction,
    unit,
)


@dataclass(frozen=True)
class Bounded(Parametrization):
    """`M / max(1, |M|_2 / norm_bound)` for a plain matrix M.

    All matrices of spectral norm at most `norm_bound`, each as itself: singular and orthogonal
    ones of either determinant included. The norm is exact to rounding error, so that a bounded
    orthogonal matrix is orthogonal.

    Attributes:
        norm_bound: the largest spectral norm, in (0, 1].
        matrix_bias_init: of `matrix_bias` [H, JT, JT].
        matrix_weight_init: of `matrix_weight` [H / S, S, JT, JT, I / S].

    Example:
        No state grows, in whatever direction.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import Bounded, Transition
        >>> config = Bounded(dim=2)
        >>> transition = Transition(1, 4, config, rngs=nnx.Rngs(0))
        >>> matrix = jax.jit(transition)(jnp.arange(4.0))[0]
        >>> bool(np.linalg.norm(matrix, 2) < 1 + 1e-5)
        True
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("norm_bound",)

    norm_bound: float = 1.0
    matrix_bias_init: Initializer = field(default_factory=ScaledIdentity)
    matrix_weight_init: Initializer = field(default_factory=lambda: FanIn(0.5))
    kind: Literal["bounded"] = "bounded"

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.norm_bound <= 1, "norm_bound", self.norm_bound, "in (0, 1]")

    def quantities(self) -> dict[str, Quantity]:
        """Return the unbounded matrix."""
        shape = (self.dim, self.dim)
        return {"matrix": Quantity(shape, self.matrix_bias_init, self.matrix_weight_init)}

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Scale matrices back that exceed the bound; see `Parametrization.matrix`."""
        del num_heads
        return singularvalue_restriction(quantities["matrix"], self.norm_bound)


Entries = Literal["positive", "signed"]


@dataclass(frozen=True)
class Diagonal(Parametrization):
    """`diag(...)` with entries in [0, 1] or [-1, 1]; with `dim = 1` a scalar gate.

    Diagonal matrices commute, so whatever `dim` they track no state that depends on the order of
    the inputs; with positive entries not even a parity (arXiv 2411.12537).

    Attributes:
        entries: "positive": `sigmoid(eigenvalue_factor x)`, in [0, 1]; "signed":
            `tanh(eigenvalue_factor x)`, in [-1, 1].
        eigenvalue_factor: positive.
        eigenvalue_bias_init: of `eigenvalues_bias` [H, JT].
        eigenvalue_weight_init: of `eigenvalues_weight` [H / S, S, JT, I / S].

    Example:
        Entries of the diagonal that are not negative.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import Diagonal, Transition
        >>> config = Diagonal(dim=2, entries="positive")
        >>> transition = Transition(1, 4, config, rngs=nnx.Rngs(0))
        >>> matrix = jax.jit(transition)(jnp.arange(4.0))[0]
        >>> matrix[0, 1].item(), bool(matrix.min() >= 0)
        (0.0, True)
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("eigenvalue_factor",)

    entries: Entries = "signed"
    eigenvalue_factor: float = 10.0
    eigenvalue_bias_init: Initializer = field(default_factory=lambda: Constant(0.4))
    eigenvalue_weight_init: Initializer = field(default_factory=lambda: FanIn(0.3))
    kind: Literal["diagonal"] = "diagonal"

    def __post_init__(self):
        super().__post_init__()
        require_choice("entries", self.entries, Entries)
        require_above_zero(eigenvalue_factor=self.eigenvalue_factor)

    def quantities(self) -> dict[str, Quantity]:
        """Return the arguments of the diagonal's entries."""
        return {
            "eigenvalues": Quantity(
                (self.dim,), self.eigenvalue_bias_init, self.eigenvalue_weight_init
            )
        }

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Put the entries on the diagonal; see `Parametrization.matrix`."""
        del num_heads
        x = self.eigenvalue_factor * quantities["eigenvalues"]
        entries = jax.nn.sigmoid(x) if self.entries == "positive" else jnp.tanh(x)
        return jnp.where(jnp.eye(self.dim, dtype=bool), entries[..., None, :], 0)


@dataclass(frozen=True)
class HouseholderProduct(Parametrization):
    """`(1 - beta_1 k_1 k_1^T) ... (1 - beta_n k_n k_n^T)` with unit k and beta in [0, 2].

    A factor is the identity at beta = 0, a projection at 1 and a reflection at 2, so the
    determinant, the product of all `1 - beta`, passes through zero smoothly. Every spectral norm
    is at most 1. Source: DeltaProduct, arXiv 2502.10297; that beta beyond 1 is needed for state
    tracking: arXiv 2411.12537.

    Attributes:
        num_reflections: n; None: JT, which reaches every orthogonal matrix.
        beta_max: `beta = beta_max * sigmoid(...)`, in (0, 2]; 1 allows no negative eigenvalue.
        direction_bias_init: of `direction_bias` [H, n, JT], scaled to length 1 with the weight's
            part.
        direction_weight_init: of `direction_weight` [H / S, S, n, JT, I / S].
        beta_bias_init: of `beta_bias` [H, n]; by default beta is about 1/4, near the identity.
        beta_weight_init: of `beta_weight` [H / S, S, n, I / S].

    Example:
        One reflection changes one direction of three alone.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import HouseholderProduct, Transition
        >>> config = HouseholderProduct(dim=3, num_reflections=1)
        >>> transition = Transition(1, 4, config, rngs=nnx.Rngs(0))
        >>> matrix = jax.jit(transition)(jnp.arange(4.0))[0]
        >>> int(np.linalg.matrix_rank(np.eye(3) - matrix, rtol=1e-4))
        1
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("beta_max",)

    num_reflections: int | None = None
    beta_max: float = 2.0
    direction_bias_init: Initializer = field(default_factory=Normal)
    direction_weight_init: Initializer = field(default_factory=FanIn)
    beta_bias_init: Initializer = field(default_factory=lambda: Constant(-2.0))
    beta_weight_init: Initializer = field(default_factory=FanIn)
    kind: Literal["householder_product"] = "householder_product"

    def __post_init__(self):
        super().__post_init__()
        if self.num_reflections is not None:
            require_count(num_reflections=self.num_reflections)
        require(0 < self.beta_max <= 2, "beta_max", self.beta_max, "in (0, 2]")

    def quantities(self) -> dict[str, Quantity]:
        """Return the directions and the arguments of the betas."""
        count = self.num_reflections or self.dim
        return {
            "direction": Quantity(
                (count, self.dim), self.direction_bias_init, self.direction_weight_init
            ),
            "beta": Quantity((count,), self.beta_bias_init, self.beta_weight_init),
        }

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Multiply the reflections; see `Parametrization.matrix`."""
        del num_heads
        directions = unit(quantities["direction"])
        betas = self.beta_max * jax.nn.sigmoid(quantities["beta"])
        return reflection_product(directions, betas)


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
        require_choice("determinant", self.determinant, Determinant)
        if self.signs is None:
            return
        fixed = self.determinant == "fixed"
        require(fixed, "signs", self.signs, "None unless determinant='fixed'")
        valid = bool(self.signs) and set(self.signs) <= {1, -1}
        require(valid, "signs", self.signs, "at least one, each 1 or -1")

    def check_heads(self, num_heads: int) -> None:
        """Raise `ValueError` if there are more signs than heads."""
        super().check_heads(num_heads)
        count = len(self.signs or ())
        require(count <= num_heads, "signs", count, f"at most num_heads = {num_heads}")

    def quantities(self) -> dict[str, Quantity]:
        """Return the generator, if `dim > 1`, and the argument of the sign, if it is learned."""
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
        """Compute rotations and set their determinants; see `Parametrization.matrix`."""
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
    """Make a skew matrix of the `dim (dim - 1) / 2` entries above its diagonal, row by row."""
    above = np.triu_indices(dim, 1)
    basis = np.zeros((len(above[0]), dim, dim))
    pairs = np.arange(len(above[0]))
    basis[pairs, *above], basis[pairs, above[1], above[0]] = 1, -1
    # Every entry of the result is a single product, which is exact at the highest precision.
    return jnp.einsum(
        "...p,pij->...ij",
        entries,
        jnp.asarray(basis, entries.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )


@jax.custom_jvp
def straight_through_sign(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Return the sign of x, with sign(0) = 1; its derivative is that of tanh."""
    return jnp.where(x >= 0, 1, -1).astype(x.dtype)


@straight_through_sign.defjvp
def _straight_through_sign_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return straight_through_sign(x), (1 - jnp.tanh(x) ** 2) * tangent
