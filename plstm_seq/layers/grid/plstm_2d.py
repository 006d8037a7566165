"""The 2D pLSTM layer, which reads a grid in several orientations, and its options."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.arguments import computed, require, require_choice, require_shape
from plstm_seq.layers.convolution import GridConvolution, GridConvolutionConfig
from plstm_seq.layers.gates import Gate, GateConfig
from plstm_seq.layers.grid.gates import Chirality, OrientationGate, PForm, d_gates, p_gates
from plstm_seq.layers.initializers import Initializer, Linspace, Zeros
from plstm_seq.layers.plstm import CONVOLVED, ConvolvedConfig, ConvolvedLayer, Mode
from plstm_seq.layers.transition import Factorized, Transition, TransitionConfig
from plstm_seq.ops import plstm_2d, plstm_2d_oriented
from plstm_seq.ops.grid.inputs import GATES, Inputs, flip

NormOf = Literal["sum", "orientation"]
GateOrder = Literal["orientation", "head"]
GridBranch = Literal[
    "source", "transition", "mark", "direct", "query", "key", "value", "orientation", "passthrough"
]


@dataclass(frozen=True, kw_only=True)
class PLSTM2DConfig(ConvolvedConfig):
    """The options of a `PLSTM2DLayer`; the defaults are those of the published layer, made sound.

    One config serves both modes: `orientation_*` and `p_form` act in P-mode, `chirality` in D-mode.
    The options of every such layer are documented at `PLSTMConfig` and `ConvolvedConfig` in
    `plstm_seq.layers.plstm`; these are the ones that differ or come on top.

    Attributes:
        orientations: the corners from which the grid is read, numbers from 0 to 3: bit 0 reads it
            from its end in X, bit 1 from its end in Y. Each has gates of its own.
        source: the gate [JT, JK, JV] through which a cell writes, one for every orientation and
            head (and in D-mode one for each of the two edges).
        transition: the matrix [JT, JT] by which a cell multiplies what enters it, likewise; its
            `dim` is JT.
        mark: the gate [JO, JQ, JT] through which a cell reads, likewise.
        direct: the gate [JO, JQ, JK, JV] that joins a cell to itself, one a head; None: none.
        orientation_scale: what the orientation gate reads of the input is multiplied by this and
            divided by the input features.
        orientation_bias_init: of its bias [O, H], O orientations; spread over the heads, so that
            they prefer different directions.
        orientation_weight_init: of its weight [O, H, I].
        p_form: "shared": the gate `a` shares source and transition out, `a` to the right and
            `1 - a` down, so that what leaves a cell is no more than what came in. "published":
            `a S` and `1 - a S`, `a T` and `1 - a T` with matrices of ones; for published weights.
        chirality: the turn that D-mode leaves out, "L": down from the left, "R": right from above.
        gate_order: how the O * H gates of all orientations and heads lie one after another:
            "orientation": gate `o H + h`; "head": gate `h O + o`. They are initialised alike; it
            says which block of the input each reads, with `sub_heads` of the gates above 1. With
            "head" the orientation biases [O, H], too, are read as [H, O], as in the published
            layer that fuses the orientations.
        norm_of: "sum": the outputs of the orientations are added and the sum is normalised;
            "orientation": each is normalised for itself, direct term included, and the mean is
            taken, as in the published layer that does not fuse them.
        kind: tells this mixer from others.
    """

    branches: ClassVar[Any] = GridBranch

    orientations: tuple[int, ...] = (0, 1, 2, 3)
    source: GateConfig = field(default_factory=GateConfig)
    transition: TransitionConfig = field(default_factory=lambda: Factorized(dim=1))
    orientation_scale: float = 0.5
    orientation_bias_init: Initializer = field(default_factory=lambda: Linspace(-2.0, 2.0))
    orientation_weight_init: Initializer = field(default_factory=Zeros)
    p_form: PForm = "shared"
    chirality: Chirality = "L"
    gate_order: GateOrder = "orientation"
    convolution: GridConvolutionConfig | None = None
    convolution_inputs: tuple[GridBranch, ...] = (*CONVOLVED, "orientation")
    norm_of: NormOf = "sum"
    kind: Literal["plstm_2d"] = "plstm_2d"

    def __post_init__(self):
        super().__post_init__()
        some = bool(self.orientations) and set(self.orientations) <= {0, 1, 2, 3}
        require(some, "orientations", self.orientations, "some of the numbers 0 to 3")
        require_choice("p_form", self.p_form, PForm)
        require_choice("chirality", self.chirality, Chirality)
        require_choice("gate_order", self.gate_order, GateOrder)
        require_choice("norm_of", self.norm_of, NormOf)


class PLSTM2DLayer(ConvolvedLayer[PLSTM2DConfig]):
    """A 2D pLSTM layer (arXiv 2506.11997, section 4).

    Gates, query, key and value are made from the input, or from a convolution of it; the op of
    `plstm_seq.ops.plstm_2d` runs on each head from several corners of the grid; its output is
    normalised per head and projected: `y = outprojection(norm(op(...)))`, and the input passes by
    through a learned factor a feature where `passthrough` says so.

    In P-mode ("directed propagation") a gate shares what leaves a cell between its two edges, and
    a signal fades along its direction with the root of the distance; in D-mode ("diffusive
    distribution") one way alone joins two cells, and a signal reaches every cell unfaded.

    X is the first axis of the grid (an image's rows, downwards), Y the second.

    Args:
        input_dim: I, the features of the input.
        config: see `PLSTM2DConfig`; None: its defaults.
        mode: "P" or "D".
        output_dim: the features of the output; None: I, or without an out projection those of the
            op, H * DV * JO.
        dtype: the type to compute in; None: that of input and parameters. Gates, transitions and
            the op's sums are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other, or the mode is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import PLSTM2DConfig, PLSTM2DLayer
        >>> layer = PLSTM2DLayer(16, PLSTM2DConfig(num_heads=2), mode="D", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((3, 4, 5, 16))).shape
        (3, 4, 5, 16)
    """

    options = PLSTM2DConfig

    def __init__(
        self,
        input_dim: int,
        config: PLSTM2DConfig | None = None,
        *,
        mode: Mode = "P",
        output_dim: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_choice("mode", mode, Mode)
        self.mode: Mode = mode
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        super().__init__(input_dim, config, output_dim=output_dim, **types)

    def _make_gates(self, **types: Any) -> None:
        """Create the gates of the layer's mode.

        P-mode has one source, transition and mark, and a gate that divides source and transition
        between the two edges. D-mode has separate gates for the two edges, and a transition for the
        turn from one to the other.
        """
        config, input_dim = self.config, self.input_dim
        heads, _, _, jk, jq, jv, jt, jo = self.sizes
        corners = len(config.orientations)
        gate = partial(Gate, corners * heads, input_dim, **types)
        source = partial(gate, (jt, jk, jv), config.source)
        transition = partial(Transition, corners * heads, input_dim, config.transition, **types)
        mark = partial(gate, (jo, jq, jt), config.mark)
        orientation = partial(
            OrientationGate,
            input_dim,
            (corners, heads),
            config.orientation_scale,
            config.orientation_bias_init,
            config.orientation_weight_init,
            **types,
        )
        makers = (
            {"orientation": orientation, "source": source, "transition": transition, "mark": mark}
            if self.mode == "P"
            else {
                "source_right": source,
                "source_down": source,
                "transition_right": transition,
                "transition_down": transition,
                "transition_turn": transition,
                "mark_left": mark,
                "mark_up": mark,
            }
        )
        self.gate_names = tuple(makers)
        for name, make in makers.items():
            setattr(self, name, make())

    def _make_convolution(self, **types: Any) -> None:
        config = self.config.convolution
        self.convolution = (
            None if config is None else GridConvolution(self.input_dim, config, **types)
        )

    def __call__(self, x: Float[Array, "B X Y I"]) -> Float[Array, "B X Y F"]:
        """Run the layer over a batch of grids.

        Args:
            x: The input [B, X, Y, I].

        Returns:
            The output [B, X, Y, output_dim].

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        x, convolved = self._enter(x)
        inputs = self._op_inputs(x, convolved)
        y = self._each(inputs) if self.config.norm_of == "orientation" else self._summed(inputs)
        return self._pass(self._leave(y), self._read("passthrough", x, convolved))

    def op_inputs(self, x: Float[Array, "B X Y I"]) -> Inputs:
        """Compute the inputs of the op: gates, query, key and value at every cell.

        Args:
            x: The input [B, X, Y, I].

        Returns:
            The arguments of `plstm_2d_oriented`: query, key, value and direct [B, H, X, Y, ...],
            and the other gates [B, H, O, X, Y, ...]. The gates of every orientation are at the
            position of their cell in `x`, not flipped.

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        return self._op_inputs(*self._enter(x))

    def record(self, x: Float[Array, "B X Y I"]) -> dict[str, Array]:
        """Return the gates that a call computes, by name.

        In P-mode, source and transition are those from before their division between two edges.

        Args:
            x: The input [B, X, Y, I].

        Returns:
            The gates [B, H, O, X, Y, ...], which for every orientation are at the position of their
            cell in `x`. In P-mode they are `orientation`, `source`, `transition` and `mark`; in
            D-mode `source_right`, `source_down`, `transition_right`, `transition_down`,
            `transition_turn`, `mark_left` and `mark_up`. If the layer has a direct term, there is
            also `direct` [B, H, X, Y, ...].

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        inputs = self._enter(x)
        gates = {name: self._by_orientation(self._made(name, *inputs)) for name in self.gate_names}
        if self.direct is not None:
            gates["direct"] = _heads_first(self._made("direct", *inputs))
        return gates

    def _enter(self, x: Array) -> tuple[Array, Array]:
        """Return the input, cast to the type to compute in, and its convolution."""
        require_shape("x", x, ("B", "X", "Y", self.input_dim))
        x = computed(x, self.dtype, self.param_dtype)
        return x, x if self.convolution is None else self.convolution(x)

    def _made(self, name: str, x: Array, convolved: Array, branch: str | None = None) -> Array:
        """Compute the gate or projection with a name.

        Its branch is the part of the name before the first underscore, unless `branch` is given.
        """
        branch = name.partition("_")[0] if branch is None else branch
        return getattr(self, name)(self._read(branch, x, convolved))

    def _op_inputs(self, x: Array, convolved: Array) -> Inputs:
        def make(name: str, branch: str | None = None) -> Array:
            return self._made(name, x, convolved, branch)

        if self.mode == "P":
            gates = p_gates(make, self.config.p_form)
        else:
            gates = d_gates(make, self.config.chirality)
        key = make("query", "key") if self.key is None else make("key")
        return Inputs(
            query=_heads_first(make("query")),
            key=_heads_first(key),
            value=_heads_first(make("value")),
            direct=None if self.direct is None else _heads_first(make("direct")),
            **jax.tree.map(self._by_orientation, gates)._asdict(),
        )

    def _by_orientation(self, gates: Array) -> Array:
        """Rearrange gates [B, X, Y, N, ...] to [B, H, O, X, Y, ...]."""
        heads, count = self.sizes.H, len(self.config.orientations)
        orientation_first = self.config.gate_order == "orientation"
        outer = (count, heads) if orientation_first else (heads, count)
        gates = gates.reshape(*gates.shape[:3], *outer, *gates.shape[4:])
        return jnp.moveaxis(gates, (4, 3) if orientation_first else (3, 4), (1, 2))

    def _summed(self, inputs: Inputs) -> Array:
        """Compute the normalised sum over the orientations, [B, X, Y, H * DV * JO]."""
        config = self.config
        y = plstm_2d_oriented(
            *inputs, orientations=config.orientations, implementation=config.implementation
        )
        return self._normed(jnp.moveaxis(y, 1, 3))

    def _each(self, inputs: Inputs) -> Array:
        """Compute the mean of the orientations' normalised outputs, each with the direct term."""
        orientations = self.config.orientations
        vectors = {
            name: jnp.broadcast_to(
                array[:, :, None], (*array.shape[:2], len(orientations), *array.shape[2:])
            )
            for name, array in inputs._asdict().items()
            if name not in GATES and array is not None
        }
        flipped = jax.tree.map(lambda x: flip(x, orientations, 2), inputs._replace(**vectors))
        y: Any = plstm_2d(*flipped, implementation=self.config.implementation)
        y = flip(y, orientations, 2)
        return jnp.mean(self._normed(jnp.moveaxis(y, 1, 4)), axis=1)


def _heads_first(array: Array) -> Array:
    """Rearrange [B, X, Y, H, ...] to [B, H, X, Y, ...]."""
    return jnp.moveaxis(array, 3, 1)
