"""Diagonal transitions, the ones of most linear recurrent networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.initializers import Constant, FanIn, Initializer
from plstm_seq.layers.transition.parametrization import Parametrization, Quantity

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
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("eigenvalue_factor",)

    entries: Entries = "signed"
    eigenvalue_factor: float = 10.0
    eigenvalue_bias_init: Initializer = field(default_factory=lambda: Constant(0.4))
    eigenvalue_weight_init: Initializer = field(default_factory=lambda: FanIn(0.3))
    kind: Literal["diagonal"] = "diagonal"

    def __post_init__(self):
        super().__post_init__()
        if self.entries not in get_args(Entries):
            raise ValueError(f"entries: got {self.entries!r}, expected one of {get_args(Entries)}")
        if not self.eigenvalue_factor > 0:
            raise ValueError(f"eigenvalue_factor: got {self.eigenvalue_factor}, expected above 0")

    def quantities(self) -> dict[str, Quantity]:
        """The entries of the diagonal."""
        return {
            "eigenvalues": Quantity(
                (self.dim,), self.eigenvalue_bias_init, self.eigenvalue_weight_init
            )
        }

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Write the entries on a diagonal; see `Parametrization.matrix`."""
        del num_heads
        x = self.eigenvalue_factor * quantities["eigenvalues"]
        entries = jax.nn.sigmoid(x) if self.entries == "positive" else jnp.tanh(x)
        return jnp.where(jnp.eye(self.dim, dtype=bool), entries[..., None, :], 0)
