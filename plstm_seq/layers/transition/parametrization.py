"""What every family of transitions is: some linear functions of the input, made into a matrix."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from jax import Array
from jaxtyping import Float

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.initializers import Initializer


@dataclass(frozen=True)
class Quantity:
    """A linear function of the input: `bias + weight . x`, of this shape per head.

    Attributes:
        shape: its axes after the head axis.
        bias_init: of the bias [H, *shape].
        weight_init: of the weight [H / sub_heads, sub_heads, *shape, I / sub_heads].
    """

    shape: tuple[int, ...]
    bias_init: Initializer
    weight_init: Initializer


@dataclass(frozen=True)
class Parametrization(ABC):
    """The part that all families share; a config and the map from quantities to matrices.

    Attributes:
        dim: JT, a transition is a `JT x JT` matrix.
        sub_heads: the input is split into this many blocks, and head `h` reads block
            `h % sub_heads` only.
        weight: whether transitions depend on the input; else on the biases alone, and the
            `*_weight_init` have nothing to do.
        leaf_fields: the fields that enter `matrix` as numbers; see `layers/hyperparameter.py`.
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ()

    dim: int = 4
    sub_heads: int = 1
    weight: bool = True

    def __post_init__(self):
        require_positive(dim=self.dim, sub_heads=self.sub_heads)

    def check_heads(self, num_heads: int) -> None:
        """Raise `ValueError` where the config does not suit this number of heads."""
        require_positive(num_heads=num_heads)

    def with_leaves(self, values: Mapping[str, Array]) -> Self:
        """Return a copy in which arrays [] stand for `leaf_fields`, to call `matrix` on.

        Arrays may be traced and are not validated: the values that they were made from were.
        """
        filled = copy.copy(self)
        for name, value in values.items():
            object.__setattr__(filled, name, value)
        return filled

    @abstractmethod
    def quantities(self) -> dict[str, Quantity]:
        """The linear functions of the input that the matrix is made of, by parameter name."""

    @abstractmethod
    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Make the matrices of all heads.

        Args:
            quantities: by name, [..., H, *shape] in float32 or float64.
            num_heads: the number of heads, H.
        """
