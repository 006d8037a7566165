"""Any matrix within a spectral norm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jax import Array
from jaxtyping import Float

from plstm_seq.layers.initializers import Diagonal, FanIn, Initializer
from plstm_seq.layers.transition.normalizations import singularvalue_restriction
from plstm_seq.layers.transition.parametrization import Parametrization, Quantity


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
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("norm_bound",)

    norm_bound: float = 1.0
    matrix_bias_init: Initializer = field(default_factory=Diagonal)
    matrix_weight_init: Initializer = field(default_factory=lambda: FanIn(0.5))
    kind: Literal["bounded"] = "bounded"

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.norm_bound <= 1:
            raise ValueError(f"norm_bound: got {self.norm_bound}, expected in (0, 1]")

    def quantities(self) -> dict[str, Quantity]:
        """The matrix itself."""
        shape = (self.dim, self.dim)
        return {"matrix": Quantity(shape, self.matrix_bias_init, self.matrix_weight_init)}

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Scale back what exceeds the bound; see `Parametrization.matrix`."""
        del num_heads
        return singularvalue_restriction(quantities["matrix"], self.norm_bound)
