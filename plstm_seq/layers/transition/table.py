"""Transitions that are looked up by token: one matrix for every entry of the vocabulary."""

from dataclasses import dataclass, field
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from plstm_seq.layers.by_token import rows_at
from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.initializers import Initializer, RandomOrthogonal
from plstm_seq.layers.precision import accumulation_dtype


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
    """Look the transitions of tokens up.

    Args:
        num_heads: the number of heads, H.
        config: see `Table`.
        dtype: the type to compute in; None: that of the parameters. Matrices are in float32 at
            least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.
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
        """Return the matrices of tokens.

        Args:
            tokens: [...], integers below V.

        Returns:
            [..., H, JT, JT].
        """
        table = self.embedding[...]
        return rows_at(table.astype(accumulation_dtype(self.dtype or table.dtype)), tokens)
