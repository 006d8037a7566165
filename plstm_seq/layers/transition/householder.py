"""Products of generalised Householder reflections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.checks import require_count
from plstm_seq.layers.initializers import Constant, FanIn, Initializer, Normal
from plstm_seq.layers.transition.parametrization import Parametrization, Quantity
from plstm_seq.layers.transition.reflections import reflection_product, unit


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
        if not 0 < self.beta_max <= 2:
            raise ValueError(f"beta_max: got {self.beta_max}, expected in (0, 2]")

    def quantities(self) -> dict[str, Quantity]:
        """Directions and betas."""
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
