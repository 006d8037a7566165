"""Transitions that select: every column, or every row, of the matrix is a choice of one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.initializers import Diagonal, FanIn, Initializer
from plstm_seq.layers.transition.parametrization import Parametrization, Quantity

Line = Literal["columns", "rows"]
Choice = Literal["hard", "soft"]


@dataclass(frozen=True)
class Selection(Parametrization):
    """Every column of the matrix is a choice of a row: where the entry of the state goes.

    A one-hot state so runs through the states of any automaton: where symbol x leads state j to
    state i, column j of its transition is one in row i. Permutations, resets and everything
    between them are reached exactly, from one initial state, with nothing written on the way.

    - "columns": entry j of the state goes to one place. The sum over the entries is kept.
    - "rows": entry i of the state is taken from one place. No entry grows.

    - "soft": a line is the softmax of its numbers over a temperature.
    - "hard": a line is one in its largest number and zero elsewhere, differentiated as the
      softmax. Products over any length then are matrices of zeros and ones, without an error.

    Source of columns chosen hard: Terzic et al., arXiv 2509.22284; of straight-through gradients:
    Bengio et al., arXiv 1308.3432.

    Attributes:
        lines: what chooses, "columns" or "rows".
        choice: "hard" or "soft".
        temperature: the numbers are divided by it before the softmax.
        choice_bias_init: of `choice_bias` [H, JT, JT].
        choice_weight_init: of `choice_weight` [H / S, S, JT, JT, I / S].
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("temperature",)

    lines: Line = "columns"
    choice: Choice = "hard"
    temperature: float = 1.0
    choice_bias_init: Initializer = field(default_factory=lambda: Diagonal(2.0))
    choice_weight_init: Initializer = field(default_factory=FanIn)
    kind: Literal["selection"] = "selection"

    def __post_init__(self):
        super().__post_init__()
        for name, options in (("lines", Line), ("choice", Choice)):
            value = getattr(self, name)
            if value not in get_args(options):
                raise ValueError(f"{name}: got {value!r}, expected one of {get_args(options)}")
        if not self.temperature > 0:
            raise ValueError(f"temperature: got {self.temperature}, expected above 0")

    def quantities(self) -> dict[str, Quantity]:
        """A number for every place of every line; none where there is one place."""
        if self.dim == 1:
            return {}
        shape = (self.dim, self.dim)
        return {"choice": Quantity(shape, self.choice_bias_init, self.choice_weight_init)}

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Choose a place for every line; see `Parametrization.matrix`."""
        if self.dim == 1:
            return jnp.ones((num_heads, 1, 1), jnp.float32)
        axis = -2 if self.lines == "columns" else -1
        shares = jax.nn.softmax(quantities["choice"] / self.temperature, axis=axis)
        if self.choice == "soft":
            return shares
        chosen = jax.nn.one_hot(
            jnp.argmax(shares, axis=axis), self.dim, axis=axis, dtype=shares.dtype
        )
        # Exactly the chosen places forwards, the shares' derivative backwards.
        return jax.lax.stop_gradient(chosen) + (shares - jax.lax.stop_gradient(shares))
