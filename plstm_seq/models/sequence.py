"""The sequence model: it maps tokens to logits at every position."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from plstm_seq.layers import GateConfig, Norm, NormConfig, PLSTM1DConfig, TransitionConfig
from plstm_seq.layers.arguments import ids_below, require, require_dtype, require_positive
from plstm_seq.layers.by_token import ByToken, pays
from plstm_seq.layers.configured import Kept
from plstm_seq.layers.initializers import Constant, FanIn, Initializer, ScaledIdentity, Small
from plstm_seq.layers.mixers import MixerConfig
from plstm_seq.layers.transition import Table
from plstm_seq.models.blocks import MixerState, PostUpConfig, make_block
from plstm_seq.models.stack import Stack, StackConfig

SequenceState = tuple[MixerState, ...]


@dataclass(frozen=True, kw_only=True)
class SequenceModelConfig(StackConfig):
    """The options of a `SequenceModel`, in addition to those of `StackConfig`.

    Attributes:
        mixer: the mixer in each block.
        tie_weights: whether the embedding is also the head's kernel.
        post_blocks_norm: the norm before the head; None: no norm.
        embed_init: the initialiser of the embedding [vocabulary, D].
        kind: the name of this kind of model in a config.
    """

    mixer: MixerConfig = field(default_factory=lambda: PLSTM1DConfig(num_heads=4))
    tie_weights: bool = False
    logit_soft_cap: float | None = 10.0
    post_blocks_norm: NormConfig | None = field(default_factory=NormConfig)
    embed_init: Initializer = field(default_factory=Small)
    kind: Literal["sequence"] = "sequence"

    def __post_init__(self):
        super().__post_init__()
        if getattr(self.mixer, "needs_tokens", False) and self.num_blocks > 1:
            raise ValueError(
                f"num_blocks: got {self.num_blocks}, expected 1 with transitions that are a table "
                "by token: later blocks do not read tokens"
            )

    def check_transitions_by_token(self) -> None:
        """Check that the model has transitions which depend on the token alone.

        Raises:
            ValueError: it has several blocks, its mixer is not pLSTM, or its transitions read a
                convolution.
        """
        if self.num_blocks > 1:
            raise ValueError(
                f"num_blocks: got {self.num_blocks} blocks, expected 1: what a later block reads "
                "depends on the state of those before, so that its transitions are no table by "
                "token"
            )
        if not isinstance(self.mixer, PLSTM1DConfig):
            raise ValueError(f"mixer: got {self.mixer.kind}, expected a pLSTM layer (plstm_1d)")
        if self.mixer.convolves_transition:
            raise ValueError(
                "mixer.convolution: got one, expected None (or convolution_inputs without "
                "'transition'): with it, transitions depend on more than the token"
            )


class SequenceModel(Stack[SequenceModelConfig]):
    """Embedding, blocks, norm and head, as in the published language model.

    For one label per sequence, read the logits at its last position. The parameters that
    `nnx.split` returns can be mapped over with `jax.vmap`, to run many models of one shape at once.

    Args:
        vocab_size: the number of tokens.
        config: see `SequenceModelConfig`.
        output_size: the number of labels; None: the number of tokens.
        dtype: the type to compute in; None: the type of the parameters. Gates, states and logits
            are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> model = SequenceModel(5, SequenceModelConfig(width=16, num_blocks=1), rngs=nnx.Rngs(0))
        >>> logits, state = model(jnp.array([[0, 3, 1, 4]]), return_state=True)
        >>> following = model(jnp.array([[2, 2]]), initial_state=state)
        >>> logits.shape, following.shape
        ((1, 4, 5), (1, 2, 5))
    """

    def __init__(
        self,
        vocab_size: int,
        config: SequenceModelConfig = SequenceModelConfig(),
        *,
        output_size: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        output_size = vocab_size if output_size is None else output_size
        require_positive(vocab_size=vocab_size, output_size=output_size)
        if config.tie_weights:
            fits = output_size == vocab_size
            require(fits, "output_size", output_size, f"vocab_size = {vocab_size} with tie_weights")
        table = getattr(config.mixer, "transition", None)
        if isinstance(table, Table):
            fits = table.tokens == vocab_size
            require(fits, "transition.tokens", table.tokens, f"vocab_size = {vocab_size}")
        types = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.vocab_size, self.output_size = vocab_size, output_size
        self.kept, self.dtype = Kept(config), dtype
        self.token_embedding = nnx.Embed(
            vocab_size, config.width, embedding_init=config.embed_init, **types
        )
        self.blocks = nnx.List(
            [
                make_block(config.width, config.block, config.mixer, **types)
                for _ in range(config.num_blocks)
            ]
        )
        norm = config.post_blocks_norm
        self.post_blocks_norm = None if norm is None else Norm(config.width, norm, **types)
        if not config.tie_weights:
            shape = (config.width, output_size)
            self.lm_head = nnx.Param(config.head_init(rngs.params(), shape, param_dtype))

    @property
    def bounded_state(self) -> bool:
        """Whether the state's size does not grow with the length, so that streaming is cheap."""
        return all(block.bounded_state for block in self.blocks)

    def init_state(self, batch_size: int) -> SequenceState:
        """Return the state before the first token: one for each block."""
        return tuple(block.init_state(batch_size) for block in self.blocks)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        initial_state: SequenceState | None = None,
        return_state: bool = False,
        dropout_key: Array | None = None,
    ) -> Float[Array, "B T V"] | tuple[Float[Array, "B T V"], SequenceState]:
        """Compute the logits of a sequence, or of its next piece.

        Args:
            tokens: [B, T], integers from 0 to below `vocab_size`. Under `jit`, where their values
                are not known, the logits are NaN from the first other value on.
            initial_state: the state that the previous piece returned; None: that of `init_state`.
            return_state: whether to return the state after the last token too.
            dropout_key: typed key that draws what training drops; None: nothing is dropped. A
                model without dropout ignores it.

        Returns:
            The logits [B, T, output_size]; with `return_state` the state too.

        Raises:
            TypeError: `tokens` is not an array of integers.
            ValueError: the shape of `tokens` or of the state does not fit, or a token is not in the
                vocabulary.
        """
        self._check_tokens(tokens, ("B", "T"))
        tokens = ids_below(self.vocab_size, "tokens", tokens)
        states = (None,) * len(self.blocks) if initial_state is None else initial_state
        self._check_count(states)
        pay = pays(self.vocab_size, tokens.size)
        x: Any = self._embed(tokens, table=pay or self.needs_tokens)
        last = []
        blocks = self._blocks_and_keys(dropout_key)
        for (block, key), state in zip(blocks, states, strict=True):
            x, state = block(x, initial_state=state, return_state=True, dropout_key=key)
            last.append(state)
        logits = self._head(x)
        return (logits, tuple(last)) if return_state else logits

    def step(
        self, tokens: Int[Array, " B"], state: SequenceState
    ) -> tuple[Float[Array, "B V"], SequenceState]:
        """Read one token, in time and memory that do not depend on the number of tokens before it.

        Args:
            tokens: [B], integers from 0 to below `vocab_size`; others give NaN. (Checking them
                would mean to wait for the device at every step.)
            state: a state from `init_state`, a call or a step.

        Returns:
            The logits [B, output_size] and the next state.

        Raises:
            TypeError: `tokens` is not an array of integers.
            ValueError: the shape of `tokens` or of the state does not fit.
        """
        self._check_tokens(tokens, ("B",))
        self._check_count(state)
        tokens = ids_below(self.vocab_size, "tokens", tokens, check=False)
        x: Any = self.token_embedding(tokens)
        last = []
        if self.needs_tokens:
            x = ByToken(x, jnp.arange(len(tokens)), tokens)
        for block, block_state in zip(self.blocks, state, strict=True):
            x, block_state = block.step(x, block_state)
            last.append(block_state)
        return self._head(x), tuple(last)

    def from_embeddings(
        self, x: Float[Array, "B T D"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "B T V"]:
        """Compute logits from embeddings, for instance to differentiate with respect to them.

        Args:
            x: [B, T, D], in the place of the embeddings of the tokens.
            tokens: [B, T]; only read where the first block's transitions are a table by token.

        Returns:
            The logits [B, T, output_size].
        """
        read: Any = x
        if self.needs_tokens:
            rows = jnp.arange(tokens.size).reshape(tokens.shape)
            read = ByToken(x.reshape(tokens.size, -1), rows, tokens.ravel())
        for block in self.blocks:
            read = block(read)
        return self._head(read)

    def transitions_by_token(self) -> Float[Array, "V H JT JT"]:
        """Return the matrix by which each token multiplies the state of each head.

        It is differentiable with respect to the parameters. After tokens a, b the state is
        `transitions[b] @ transitions[a] @ C`, plus what the source has written.

        Returns:
            The transitions [vocab_size, H, JT, JT], in float32 at least.

        Raises:
            ValueError: see `SequenceModelConfig.check_transitions_by_token`.
        """
        self.config.check_transitions_by_token()
        block: Any = self.blocks[0]
        found = []

        def mix(h: Any) -> tuple[Array, None]:
            found.append(block.mixer.op_inputs(h).transition[:, 0])
            return jnp.zeros((*h.shape[:-1], block.mixer.output_dim), h.dtype), None

        tokens = jnp.arange(self.vocab_size)[:, None]
        block._around(self._embed(tokens, table=self.needs_tokens), mix)
        return found[0]

    @property
    def needs_tokens(self) -> bool:
        """Whether the first block has to know the tokens in addition to their embeddings."""
        return self.blocks[0].needs_tokens

    def _embed(self, tokens: Array, *, table: bool) -> Any:
        """Return the embeddings at the positions; with `table` as a `ByToken`."""
        if table:
            return ByToken(self.token_embedding(jnp.arange(self.vocab_size)), tokens)
        return self.token_embedding(tokens)

    def _head(self, x: Array) -> Array:
        if self.post_blocks_norm is not None:
            x = self.post_blocks_norm(x)
        tied = self.config.tie_weights
        kernel = self.token_embedding.embedding[...].T if tied else self.lm_head
        return self._logits(x, kernel)

    def _check_count(self, states: Sequence[MixerState | None]) -> None:
        if len(states) != len(self.blocks):
            raise ValueError(f"state: got {len(states)} block states, expected {len(self.blocks)}")

    @staticmethod
    def _check_tokens(tokens: Array, axes: tuple[str, ...]) -> None:
        require_dtype("tokens", tokens, jnp.integer, "an array of integers")
        if tokens.ndim != len(axes):
            raise ValueError(f"tokens: got shape {tokens.shape}, expected [{', '.join(axes)}]")


def state_tracking(
    transition: TransitionConfig,
    *,
    width: int = 64,
    num_blocks: int = 1,
    num_heads: int = 4,
    DK: int = 4,
    DV: int = 4,
) -> SequenceModelConfig:
    """Return a small model that learns to track a state, with one label for each token.

    It differs from the published defaults in these points; each of them was necessary or of great
    help where it was tried:

    - The initial state is learned, so that transitions have something to act on before the input
      has written anything.
    - Source gates start almost closed, so that the transitions have to do the work.
    - The mark starts as the identity and reads the state after its step, because the label of a
      step depends on its own token.
    - Transitions have unit scale in the input (the initialisers of `transition`).
    - There is no convolution, so that a transition depends on its own token alone.

    Args:
        transition: the transitions. JT is their `dim`, and so are the value and output dimensions.
        width: the number of features between blocks.
        num_blocks: the number of blocks.
        num_heads: the number of heads, H.
        DK: the number of query and key features per head.
        DV: the number of value features per head.

    Returns:
        The model's configuration.

    Example:
        >>> from plstm_seq.layers.transition import Orthogonal
        >>> from plstm_seq.models import state_tracking
        >>> config = state_tracking(Orthogonal(dim=3), width=32)
        >>> config.mixer.transition.dim, config.mixer.learned_initial_state
        (3, True)
    """
    mixer = PLSTM1DConfig(
        num_heads=num_heads,
        DK=DK,
        DV=DV,
        source=GateConfig(weight=True, bias_init=Constant(-10.0), weight_init=FanIn(0.1)),
        transition=transition,
        mark=GateConfig(
            weight=True,
            activation="identity",
            bias_init=ScaledIdentity(1.0, in_axes=-1, out_axes=-3),
            weight_init=FanIn(0.1),
        ),
        direct=None,
        sub_heads=1,
        convolution=None,
        mark_reads="after",
        learned_initial_state=True,
    )
    return SequenceModelConfig(
        width=width, num_blocks=num_blocks, block=PostUpConfig(), mixer=mixer
    )
