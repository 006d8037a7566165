"""The base class of all families of transitions, and the layers that compute the matrices.

A family is a `Parametrization`: it makes a matrix from linear functions of the input, which the
layer `Transition` computes. A `Table` is not a family: its layer, `TransitionTable`, looks matrices
up by token, one for every entry of the vocabulary.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    require_divisible,
    require_positive,
    require_shape,
)
from plstm_seq.layers.by_token import rows_at
from plstm_seq.layers.configured import Configured, Hyperparameter, Kept, add_hyperparameters
from plstm_seq.layers.initializers import Initializer, RandomOrthogonal
from plstm_seq.layers.sub_heads import sub_head_linear


@dataclass(frozen=True)
class Quantity:
    """A linear function of the input, `bias + weight . x`, with a value [*shape] for each head.

    Attributes:
        shape: The axes after the head axis.
        bias_init: The initialiser of the bias [H, *shape].
        weight_init: The initialiser of the weight
            [H / sub_heads, sub_heads, *shape, I / sub_heads].
    """

    shape: tuple[int, ...]
    bias_init: Initializer
    weight_init: Initializer


@dataclass(frozen=True)
class Parametrization(ABC):
    """The base of all families: their shared options, and the map from quantities to matrices.

    Attributes:
        dim: The number of rows and columns of a transition (JT).
        sub_heads: The number of blocks into which the input is split; head `h` reads only block
            `h % sub_heads`.
        weight: Whether transitions depend on the input. Otherwise they are made of the biases
            alone, and the fields `*_weight_init` have no effect.
        leaf_fields: The names of the fields that `matrix` computes with as numbers; see
            `layers/configured.py`.
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ()

    dim: int = 4
    sub_heads: int = 1
    weight: bool = True

    def __post_init__(self):
        require_positive(dim=self.dim, sub_heads=self.sub_heads)

    def check_heads(self, num_heads: int) -> None:
        """Raise `ValueError` if the config does not fit this number of heads."""
        require_positive(num_heads=num_heads)

    def with_leaves(self, values: Mapping[str, Array]) -> Self:
        """Return a copy whose `leaf_fields` are replaced by scalar arrays, for a call of `matrix`.

        The arrays may be traced. They are not validated, because the numbers that they were made
        from have been validated already.
        """
        filled = copy.copy(self)
        for name, value in values.items():
            object.__setattr__(filled, name, value)
        return filled

    @abstractmethod
    def quantities(self) -> dict[str, Quantity]:
        """Return the linear functions of the input that make up the matrix, by parameter name."""

    @abstractmethod
    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Compute the matrices of all heads, [..., H, JT, JT].

        Args:
            quantities: The values of the quantities by name, each [..., H, *shape] in float32 or
                float64.
            num_heads: The number of heads (H).
        """


class Transition(Configured[Parametrization]):
    """Map input vectors [..., I] to transition matrices [..., H, JT, JT].

    The parameters are `NAME_bias` [H, *shape] and, if transitions depend on the input,
    `NAME_weight` [H / S, S, *shape, I / S] (S = `config.sub_heads`, head `h S + s` reads block
    `s`), for every name in `config.quantities()`. The numbers that `config.leaf_fields` names are
    arrays [] of the same names, no parameters but leaves of the state.

    Args:
        num_heads: the number of heads, H.
        input_dim: the number of input features, I.
        config: the parametrisation, one of `TransitionConfig`.
        dtype: the type that the input is projected in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: `sub_heads` divides not both H and I, or `config` does not suit H.
        TypeError: `config` is no such parametrisation; a `Table` is looked up by token.

    Example:
        Rotations of three dimensions, one for every input and head.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Transition
        >>> from plstm_seq.layers.transition import Orthogonal
        >>> transition = Transition(2, 8, Orthogonal(dim=3), rngs=nnx.Rngs(0))
        >>> matrix = transition(jnp.ones((5, 8)))
        >>> matrix.shape, bool(jnp.allclose(matrix @ matrix.mT, jnp.eye(3), atol=1e-5))
        ((5, 2, 3, 3), True)
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        config: Parametrization,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not isinstance(config, Parametrization):
            raise TypeError(
                f"transition: got {type(config).__name__}, expected a family whose matrices are "
                "made from the input"
            )
        require_positive(num_heads=num_heads, input_dim=input_dim)
        require_divisible("num_heads", num_heads, "sub_heads", config.sub_heads)
        require_divisible("input_dim", input_dim, "sub_heads", config.sub_heads)
        config.check_heads(num_heads)
        self.num_heads, self.input_dim = num_heads, input_dim
        self.kept, self.dtype = Kept(config), dtype
        add_hyperparameters(self, config, param_dtype)
        blocks = config.sub_heads
        for name, quantity in config.quantities().items():
            shape = (num_heads, *quantity.shape)
            bias = quantity.bias_init(rngs.params(), shape, param_dtype)
            setattr(self, f"{name}_bias", nnx.Param(bias))
            if config.weight:
                shape = (num_heads // blocks, blocks, *quantity.shape, input_dim // blocks)
                weight = quantity.weight_init(rngs.params(), shape, param_dtype)
                setattr(self, f"{name}_weight", nnx.Param(weight))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S H JT JT"]:
        """Compute the transition of every input vector.

        Args:
            x: The input vectors, [..., I].

        Returns:
            The matrices [..., H, JT, JT], in float32 at least. (Rounding an orthogonal matrix to
            bfloat16 would make it deviate from orthogonality by half a percent at every step.)

        Raises:
            ValueError: If the last axis of `x` does not have size I.
        """
        quantities = self.quantities(x)
        # Without weights the matrices are computed once and then repeated for every input.
        matrix = self.matrices(quantities, self.num_heads)
        if not quantities:  # the matrix is constant, so its type does not follow from the input
            matrix = matrix.astype(accumulation_dtype(self.dtype or x.dtype))
        dim = self.config.dim
        return jnp.broadcast_to(matrix, (*x.shape[:-1], self.num_heads, dim, dim))

    def quantities(self, x: Float[Array, "*S I"]) -> dict[str, Float[Array, "..."]]:
        """Compute the linear functions of every input vector, by name.

        Args:
            x: The input vectors, [..., I].

        Returns:
            Values [..., H, *shape], in float32 at least. Without weights they are the biases,
            [H, *shape].
        """
        require_shape("x", x, ("...", self.input_dim))
        return {name: self._project(name, x) for name in self.config.quantities()}

    def matrices(
        self, quantities: dict[str, Float[Array, "..."]], num_heads: int
    ) -> Float[Array, "*S H JT JT"]:
        """Compute matrices from quantities [..., H, *shape]; see `Parametrization.matrix`."""
        return self._with_leaves(quantities).matrix(quantities, num_heads)

    def _with_leaves(self, quantities: dict[str, Array]) -> Parametrization:
        """Return the config with its leaf fields as arrays of the quantities' type."""
        if not self.config.leaf_fields or not quantities:
            return self.config
        dtype = jnp.result_type(*quantities.values())
        leaves: dict[str, Hyperparameter] = {
            name: getattr(self, name) for name in self.config.leaf_fields
        }
        return self.config.with_leaves(
            {name: leaf.constant(dtype) for name, leaf in leaves.items()}
        )

    def _project(self, name: str, x: Array) -> Array:
        bias = getattr(self, f"{name}_bias")[...]
        weight = getattr(self, f"{name}_weight")[...] if self.config.weight else None
        return sub_head_linear(x, weight, bias, dtype=self.dtype)


@dataclass(frozen=True)
class Table:
    """A table of transitions, one matrix for each token and head.

    Every other family makes its matrices from the input's features, which are too few for a large
    vocabulary: 168 tokens do not fit a linear map from 128 features. The entries are free
    parameters; nothing keeps them orthogonal in training. Only the first block of a sequence model
    knows its tokens, so a table is for models of one block.

    Attributes:
        dim: JT, a transition is a `JT x JT` matrix.
        tokens: V, the size of the vocabulary.
        embedding_init: of `embedding` [V, H, JT, JT].
        kind: tells this family from others.
    """

    dim: int = 4
    tokens: int = 2
    embedding_init: Initializer = field(default_factory=RandomOrthogonal)
    kind: Literal["table"] = "table"

    def __post_init__(self):
        require_positive(dim=self.dim, tokens=self.tokens)


class TransitionTable(Configured[Table]):
    """Look up the transition matrices of tokens in a `Table`.

    Args:
        num_heads: the number of heads, H.
        config: see `Table`.
        dtype: the type to compute in; None: that of the parameters. Matrices are in float32 at
            least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Example:
        The matrices of tokens 0 and 4 for two heads.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import Table, TransitionTable
        >>> transitions = TransitionTable(2, Table(dim=3, tokens=5), rngs=nnx.Rngs(0))
        >>> transitions(jnp.array([0, 4])).shape
        (2, 2, 3, 3)
    """

    def __init__(
        self,
        num_heads: int,
        config: Table,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(num_heads=num_heads)
        self.kept, self.dtype = Kept(config), dtype
        shape = (config.tokens, num_heads, config.dim, config.dim)
        self.embedding = nnx.Param(config.embedding_init(rngs.params(), shape, param_dtype))

    def __call__(self, tokens: Int[Array, "*S"]) -> Float[Array, "*S H JT JT"]:
        """Look up the matrices of tokens.

        Args:
            tokens: The tokens [...], integers from 0 to V - 1.

        Returns:
            The matrices [..., H, JT, JT].
        """
        table = self.embedding[...]
        return rows_at(table.astype(accumulation_dtype(self.dtype or table.dtype)), tokens)
