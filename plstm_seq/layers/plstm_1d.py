"""The 1D pLSTM layer: projections and gates around one op."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from plstm_seq.layers.arguments import (
    accumulation_dtype,
    computed,
    require_positive,
    require_shape,
)
from plstm_seq.layers.by_token import ByToken, at_positions
from plstm_seq.layers.convolution import CausalConvolution
from plstm_seq.layers.gates import Gate
from plstm_seq.layers.plstm import ConvolvedLayer
from plstm_seq.layers.plstm_1d_config import PLSTM1DConfig
from plstm_seq.layers.transition import (
    Table,
    Transition,
    TransitionTable,
)
from plstm_seq.ops.products import fused_einsum
from plstm_seq.ops.sequence.api import plstm_1d, plstm_1d_step
from plstm_seq.ops.sequence.inputs import Inputs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PLSTM1DState:
    """The state of a `PLSTM1DLayer` within a sequence; every leaf begins with the batch axis.

    Attributes:
        convolution: the last inputs that the convolution still needs, [B, K - 1, I]; None if it
            needs none.
        C: the state of the recurrence, [B, H, DK, DV, JT], in float32 at least.
        position: the number of steps taken, [B].

    Example:
        The state of two sequences before their first step.

        >>> from flax import nnx
        >>> from plstm_seq.layers import PLSTM1DConfig, PLSTM1DLayer, PLSTM1DState
        >>> layer = PLSTM1DLayer(16, PLSTM1DConfig(num_heads=2), rngs=nnx.Rngs(0))
        >>> state: PLSTM1DState = layer.init_state(2)
        >>> state.position.tolist(), state.C.shape[:2]
        ([0, 0], (2, 2))
    """

    convolution: Float[Array, "B K-1 I"] | None
    C: Float[Array, "B H DK DV JT"]
    position: Int[Array, " B"]


class PLSTM1DLayer(ConvolvedLayer[PLSTM1DConfig]):
    """A 1D pLSTM layer (arXiv 2506.11997, section 4 and appendix A.5).

    Gates, query, key and value are made from the input, or from a short causal convolution of it.
    The op `plstm_seq.ops.plstm_1d` runs on each head; its output is normalised per head and
    projected. The input is added, times a learned factor for each feature:
    `y = outprojection(norm(op(...))) + passthrough * x`.

    A whole sequence, its pieces with the state passed on, and single steps give the same outputs.

    Args:
        input_dim: the number of features of the input, I.
        config: see `PLSTM1DConfig`; None: its defaults.
        output_dim: the number of features of the output, O; None: I, or without an out projection
            that of the op's output, H * DV * JO.
        dtype: the type to compute in; None: the common type of input and parameters. Gates,
            transitions and the state are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Attributes:
        bounded_state: True: the size of the state does not grow with the length.

    Raises:
        ValueError: sizes do not fit each other.

    Example:
        A whole sequence, and the next step after it.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import PLSTM1DConfig, PLSTM1DLayer
        >>> layer = PLSTM1DLayer(16, PLSTM1DConfig(num_heads=2), rngs=nnx.Rngs(0))
        >>> y, state = layer(jnp.ones((3, 10, 16)), return_state=True)
        >>> y_next, state = layer.step(jnp.ones((3, 16)), state)
        >>> y.shape, y_next.shape
        ((3, 10, 16), (3, 16))
    """

    options = PLSTM1DConfig
    bounded_state = True

    @property
    def needs_tokens(self) -> bool:
        """Whether inputs have to be `ByToken`, also in `step`: transitions are a table by token."""
        return self.config.needs_tokens

    def _make_gates(self, **types: Any) -> None:
        config, input_dim = self.config, self.input_dim
        heads, _, _, jk, jq, jv, jt, jo = self.sizes
        self.source = (
            None
            if config.source is None
            else Gate(heads, input_dim, (jt, jk, jv), config.source, **types)
        )
        self.transition = (
            TransitionTable(heads, config.transition, **types)
            if isinstance(config.transition, Table)
            else Transition(heads, input_dim, config.transition, **types)
        )
        self.mark = Gate(heads, input_dim, (jo, jq, jt), config.mark, **types)

    def _make_convolution(self, **types: Any) -> None:
        config = self.config.convolution
        self.conv = None if config is None else CausalConvolution(self.input_dim, config, **types)

    def _make_rest(self, **types: Any) -> None:
        super()._make_rest(**types)
        config = self.config
        if not config.writes:
            self.key, self.value = None, None
        if config.learned_initial_state:
            key, param_dtype = types["rngs"].params(), types["param_dtype"]
            initial_state = config.initial_state_init(key, self._state_shape, param_dtype)
            self.initial_state = nnx.Param(initial_state)

    def init_state(self, batch_size: int) -> PLSTM1DState:
        """Return the state before the first step.

        Args:
            batch_size: the number of sequences, B.

        Returns:
            A state without past inputs, with the learned initial state or zero, at position 0.
        """
        require_positive(batch_size=batch_size)
        return self._init_state(batch_size, self.param_dtype if self.dtype is None else self.dtype)

    @overload
    def __call__(
        self,
        x: Array | ByToken,
        *,
        initial_state: PLSTM1DState | None = None,
        return_state: Literal[False] = False,
    ) -> Array: ...

    @overload
    def __call__(
        self,
        x: Array | ByToken,
        *,
        initial_state: PLSTM1DState | None = None,
        return_state: Literal[True],
    ) -> tuple[Array, PLSTM1DState]: ...

    def __call__(
        self,
        x: Float[Array, "B T I"] | ByToken,
        *,
        initial_state: PLSTM1DState | None = None,
        return_state: bool = False,
    ) -> Float[Array, "B T O"] | tuple[Float[Array, "B T O"], PLSTM1DState]:
        """Run over a sequence, or over its next piece.

        Args:
            x: [B, T, I]; or a `ByToken`, whose gates and projections are then computed once per
                row (not with a convolution). Transitions that are a table by token need a
                `ByToken`, which says the token of each row.
            initial_state: the state that the previous piece returned; None: that of `init_state`.
            return_state: whether to return the state after the last step too.

        Returns:
            The output [B, T, O]; with `return_state` the state too.

        Raises:
            ValueError: the shape of `x` or of the state does not fit.
            TypeError: the transitions are a table by token, and `x` is not a `ByToken`.
        """
        require_shape("x", x, ("B", "T", self.input_dim))
        tokens = self._tokens(x)
        x, state = self._enter(x, initial_state)
        if isinstance(x, ByToken) and self.conv is None:
            convolved, history = x, None
            of_row = x.token_of_row
            inputs = x.map(lambda rows: self._op_inputs(rows, rows, of_row)).expand()
        else:
            x = at_positions(x)
            convolved, history = self._convolve(x, state)
            inputs = self._op_inputs(x, convolved, tokens)
        heads_before_time = jax.tree.map(lambda array: jnp.moveaxis(array, 2, 1), inputs)
        y, last = plstm_1d(
            *heads_before_time,
            initial_state=state.C,
            chunk_size=self.config.chunk_size,
            implementation=self.config.implementation,
            return_state=True,
        )
        y = self._leave(self._normed(jnp.moveaxis(y, 1, 2)))
        y = self._pass(y, at_positions(self._read("passthrough", x, convolved)))
        if not return_state:
            return y
        return y, PLSTM1DState(history, last, state.position + x.shape[1])

    def step(
        self, x: Float[Array, "B I"] | ByToken, state: PLSTM1DState
    ) -> tuple[Float[Array, "B O"], PLSTM1DState]:
        """Take one step, in time and memory that do not depend on the number of steps before it.

        Args:
            x: [B, I]; or a `ByToken` with tokens [B], if transitions are a table by token.
            state: a state from `init_state`, a call or a step.

        Returns:
            The output [B, O] and the next state.

        Raises:
            ValueError: the shape of `x` or of the state does not fit.
            TypeError: see a call.
        """
        require_shape("x", x, ("B", self.input_dim))
        tokens = self._tokens(x)
        read, state = self._enter(at_positions(x), state)
        convolved, history = self._convolve(read[:, None], state)
        convolved = convolved[:, 0]
        y, last = plstm_1d_step(*self._op_inputs(read, convolved, tokens), state=state.C)
        y = self._leave(self._normed(y))
        y = self._pass(y, self._read("passthrough", read, convolved))
        return y, PLSTM1DState(history, last, state.position + 1)

    def op_inputs(
        self, x: Float[Array, "B T I"] | ByToken, initial_state: PLSTM1DState | None = None
    ) -> Inputs:
        """Compute the arguments of the op: gates, query, key and value at every position.

        Args:
            x: [B, T, I].
            initial_state: see a call.

        Returns:
            The arguments of the op, each [B, T, H, and its own axes].

        Raises:
            ValueError: the shape of `x` or of the state does not fit.
            TypeError: see a call.
        """
        require_shape("x", x, ("B", "T", self.input_dim))
        read, state = self._enter(at_positions(x), initial_state)
        return self._op_inputs(read, self._convolve(read, state)[0], self._tokens(x))

    def record(self, x: Float[Array, "B T I"] | ByToken) -> dict[str, Array | None]:
        """Return what a call computes on the way.

        Args:
            x: [B, T, I], a sequence from its first step on.

        Returns:
            The arguments of the op by name, each [B, T, H, and its own axes]; `initial_state`
            [H, DK, DV, JT]; and `states` [B, T, H, DK, DV, JT], the state after each step.
        """
        inputs = self.op_inputs(x)
        start = self.init_state(x.shape[0]).C

        def step(state: Array, at: Inputs) -> tuple[Array, Array]:
            _, state = plstm_1d_step(*at, state=state)
            return state, state

        time_first = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0), inputs)
        _, states = jax.lax.scan(step, start, time_first)
        return inputs._asdict() | {"initial_state": start[0], "states": jnp.moveaxis(states, 0, 1)}

    def _init_state(self, batch_size: int, dtype: DTypeLike) -> PLSTM1DState:
        shape, wide = self._state_shape, accumulation_dtype(dtype)
        if self.config.learned_initial_state:
            start = self.initial_state[...].astype(wide)
        else:
            start = jnp.zeros(shape, wide)
        past = self._history_length
        return PLSTM1DState(
            convolution=jnp.zeros((batch_size, past, self.input_dim), dtype) if past else None,
            C=jnp.broadcast_to(start, (batch_size, *shape)),
            position=jnp.zeros((batch_size,), jnp.int32),
        )

    @property
    def _state_shape(self) -> tuple[int, int, int, int]:
        return (self.sizes.H, self.sizes.DK, self.sizes.DV, self.sizes.JT)

    @property
    def _history_length(self) -> int:
        return 0 if self.conv is None else self.conv.history_length

    def _enter(self, x: Array | ByToken, state: PLSTM1DState | None) -> tuple[Any, PLSTM1DState]:
        """Bring `x` to the type computed in, and check the state or make a new one."""
        x = computed(x, self.dtype, self.param_dtype)
        fresh = self._init_state(x.shape[0], x.dtype)
        if state is None:
            return x, fresh
        for part in dataclasses.fields(fresh):
            given, expected = getattr(state, part.name), getattr(fresh, part.name)
            shapes = tuple(None if array is None else array.shape for array in (given, expected))
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"state.{part.name}: got shape {shapes[0]}, expected {shapes[1]} for an input "
                    f"of shape {x.shape}"
                )
        return x, state

    def _tokens(self, x: Array | ByToken) -> Array | None:
        """Return the token at each position, if `x` is a `ByToken`."""
        if not isinstance(self.config.transition, Table):
            return None
        if not isinstance(x, ByToken):
            raise TypeError(
                "x: got an array, expected ByToken (rows and tokens): transitions are a table by "
                "token"
            )
        if x.names is None:
            require_shape("x.table", x.table, (self.config.transition.tokens, self.input_dim))
        return x.token_at_position

    def _convolve(self, x: Array, state: PLSTM1DState) -> tuple[Array, Array | None]:
        """Return the convolved `x` [B, T, I], and the history for the next piece."""
        if self.conv is None:
            return x, None
        convolved, history = self.conv(x, state.convolution)
        return convolved, history if self._history_length else None

    def _op_inputs(self, x: Array, convolved: Array, tokens: Array | None) -> Inputs:
        """Compute the arguments of the op from [..., I], each [..., H, and its own axes].

        The tokens [...] are needed if transitions are a table by token.
        """
        read = partial(self._read, x=x, convolved=convolved)
        by_token: Any = tokens if self.needs_tokens else read("transition")
        transition = self.transition(by_token)
        mark = self.mark(read("mark"))
        direct = None if self.direct is None else self.direct(read("direct"))
        source = None if self.source is None else self.source(read("source"))
        query = self.query(read("query"))
        if self.config.mark_reads == "after":
            # The mark then reads C_t = transition_t . C_{t-1} + source_t . key_t . value_t.
            if source is not None:
                own = fused_einsum("...oqi,...iaw->...oqaw", mark, source)
                direct = own if direct is None else direct + own
            mark = fused_einsum("...oqi,...ij->...oqj", mark, transition)
        key, value = self._key_and_value(read, query)
        if source is None:
            shape = (*transition.shape[:-1], self.sizes.JK, self.sizes.JV)
            source = jnp.zeros(shape, transition.dtype)
        return Inputs(
            query=query,
            key=key,
            value=value,
            source=source,
            transition=transition,
            mark=mark,
            direct=direct,
        )

    def _key_and_value(self, read: Callable[[str], Array], query: Array) -> tuple[Array, Array]:
        if self.value is None:  # nothing is written; the op still takes keys and values
            heads, dk, dv, jk, _, jv, *_ = self.sizes
            lead = query.shape[:-3]
            zeros = partial(jnp.zeros, dtype=query.dtype)
            return zeros((*lead, heads, dk, jk)), zeros((*lead, heads, dv, jv))
        key = (self.query if self.key is None else self.key)(read("key"))
        return key, self.value(read("value"))
