"""Transitions whose columns, or rows, each choose one place of the state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.arguments import require, require_above_zero, require_choice
from plstm_seq.layers.initializers import FanIn, Initializer, ScaledIdentity, Zeros
from plstm_seq.layers.transition.base import Parametrization, Quantity

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

    With `rotated` a place holds a pair of entries, and every line turns the pair that it moves by
    an angle, so that a counter modulo any number runs beside the automaton: symbols move the
    place, and turn the pair by what the place says. That is every cascade of an automaton with an
    abelian group below it, in one transition; the sum and the factor of arithmetic modulo 5, for
    one, in five pairs.

    - "soft": a line is the softmax of its numbers over a temperature.
    - "hard": a line is one in its largest number and zero elsewhere, differentiated as the
      softmax. Products over any length then are matrices of zeros and ones, without an error.

    Source of columns chosen hard: Terzic et al., arXiv 2509.22284; of straight-through gradients:
    Bengio et al., arXiv 1308.3432.

    Attributes:
        lines: what chooses, "columns" or "rows".
        choice: "hard" or "soft".
        rotated: whether there are JT / 2 places of a pair each, turned as they are moved. JT is
            even then.
        temperature: the numbers are divided by it before the softmax.
        choice_bias_init: of `choice_bias` [H, P, P], with P = JT places, or JT / 2 if rotated.
        choice_weight_init: of `choice_weight` [H / S, S, P, P, I / S].
        angle_bias_init: of `angle_bias` [H, P], radians, if rotated.
        angle_weight_init: of `angle_weight` [H / S, S, P, I / S], if rotated.

    Example:
        Every entry of the state goes to one place.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import Selection, Transition
        >>> config = Selection(dim=3)
        >>> transition = Transition(1, 4, config, rngs=nnx.Rngs(0))
        >>> matrix = jax.jit(transition)(jnp.arange(4.0))[0]
        >>> matrix.sum(0).tolist(), matrix.max(0).tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("temperature",)

    lines: Line = "columns"
    choice: Choice = "hard"
    rotated: bool = False
    temperature: float = 1.0
    choice_bias_init: Initializer = field(default_factory=lambda: ScaledIdentity(2.0))
    choice_weight_init: Initializer = field(default_factory=FanIn)
    angle_bias_init: Initializer = field(default_factory=Zeros)
    angle_weight_init: Initializer = field(default_factory=FanIn)
    kind: Literal["selection"] = "selection"

    def __post_init__(self):
        super().__post_init__()
        require_choice("lines", self.lines, Line)
        require_choice("choice", self.choice, Choice)
        require_above_zero(temperature=self.temperature)
        even = not (self.rotated and self.dim % 2)
        require(even, "dim", self.dim, "an even number where rotated is set")

    @property
    def places(self) -> int:
        """The number of places (P) among which every line chooses."""
        return self.dim // 2 if self.rotated else self.dim

    def quantities(self) -> dict[str, Quantity]:
        """Return the scores of all places for every line, if P > 1, and the angles, if rotated."""
        places, quantities = self.places, {}
        if places > 1:
            shape = (places, places)
            quantities["choice"] = Quantity(shape, self.choice_bias_init, self.choice_weight_init)
        if self.rotated:
            quantities["angle"] = Quantity((places,), self.angle_bias_init, self.angle_weight_init)
        return quantities

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Choose a place for every line, and rotate its pair; see `Parametrization.matrix`."""
        if self.places > 1:
            chosen = self._choose(quantities["choice"])
        else:
            chosen = jnp.ones((num_heads, 1, 1), jnp.float32)
        if not self.rotated:
            return chosen
        angle = quantities["angle"]
        angle = angle[..., None, :] if self.lines == "columns" else angle[..., None]
        cos, sin = chosen * jnp.cos(angle), chosen * jnp.sin(angle)
        pairs = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -3)
        return pairs.reshape(*cos.shape[:-2], self.dim, self.dim)

    def _choose(self, numbers: Float[Array, "*S P P"]) -> Float[Array, "*S P P"]:
        axis = -2 if self.lines == "columns" else -1
        shares = jax.nn.softmax(numbers / self.temperature, axis=axis)
        if self.choice == "soft":
            return shares
        chosen = jax.nn.one_hot(
            jnp.argmax(shares, axis=axis), self.places, axis=axis, dtype=shares.dtype
        )
        # The value is exactly the choice, and the derivative is that of the softmax.
        return jax.lax.stop_gradient(chosen) + (shares - jax.lax.stop_gradient(shares))
