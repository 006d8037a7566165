"""The base of the 1D, 2D and DAG layers: the options, and everything around the op but the gates.

`PLSTMConfig` and `PLSTMLayer` are the bases of all three. `ConvolvedConfig` and `ConvolvedLayer`
are the bases of the two whose positions have neighbours: the sequence and the grid.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from plstm_seq.layers.arguments import given, require, require_divisible, require_positive
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.gates import Gate, GateConfig
from plstm_seq.layers.head_projection import HeadProjection, HeadProjectionConfig
from plstm_seq.layers.initializers import Initializer, Small, Zeros
from plstm_seq.layers.norm import Norm, NormConfig, Scale

Mode = Literal["P", "D"]
"""How a layer over grids or graphs moves information: "P" propagates, "D" diffuses it."""

CONVOLVED: Final = ("source", "transition", "mark", "direct", "query", "key")
"""The branches that read the convolved input by default, in a sequence and in a grid."""


class LayerSizes(NamedTuple):
    """All sizes of a layer, in the letters of `plstm_seq.notation`; H is the number of heads."""

    H: int
    DK: int
    DV: int
    JK: int
    JQ: int
    JV: int
    JT: int
    JO: int

    @property
    def output(self) -> int:
        """The features before the out projection, H * DV * JO."""
        return self.H * self.DV * self.JO


@dataclass(frozen=True, kw_only=True)
class PLSTMConfig:
    """The options of every pLSTM layer.

    Attributes:
        num_heads: the number of heads, H.
        JK: the key dimension of the source.
        JQ: the query dimension of the mark.
        JV: the value dimension of the source; None: JT.
        JO: the output dimension of the mark; None: JT.
        DK: the number of query and key features per head; None: input features / (H * JK).
        DV: the number of value features per head; None: input features / (H * JV).
        source: the gate [JT, JK, JV] through which a position writes.
        transition: the matrix [JT, JT] that multiplies the state; its `dim` is JT.
        mark: the gate [JO, JQ, JT] through which a position reads.
        direct: the gate [JO, JQ, JK, JV] that joins a position to itself; None: no such term.
        query: the query projection.
        key: the key projection; it has no effect with `tie_query_key`.
        value: the value projection.
        sub_heads: the number of blocks of the query, key and value weights; None: H.
        tie_query_key: whether the query projection also makes the keys.
        norm: the norm over each head's output; None: no norm.
        outprojection: whether a linear map follows the norm.
        outprojection_bias: whether that map has a bias.
        outprojection_weight_init: the initialiser of its kernel [H * DV * JO, output features].
        outprojection_bias_init: the initialiser of its bias.
        implementation: how the op is computed, see `plstm_seq.ops`; None: the best way that
            supports the call. Names of older configs still work (`plstm_seq.ops.choice`).
    """

    num_heads: int = 1
    JK: int = 1
    JQ: int = 1
    JV: int | None = None
    JO: int | None = None
    DK: int | None = None
    DV: int | None = None
    source: GateConfig | None = field(default_factory=GateConfig)
    transition: Any = None
    mark: GateConfig = field(default_factory=GateConfig)
    direct: GateConfig | None = field(default_factory=GateConfig)
    query: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    key: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    value: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    sub_heads: int | None = None
    tie_query_key: bool = False
    norm: NormConfig | None = field(default_factory=NormConfig)
    outprojection: bool = True
    outprojection_bias: bool = False
    outprojection_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    outprojection_bias_init: Initializer = field(default_factory=Zeros)
    implementation: str | None = None

    def __post_init__(self):
        optional = given(JV=self.JV, JO=self.JO, DK=self.DK, DV=self.DV, sub_heads=self.sub_heads)
        require_positive(num_heads=self.num_heads, JK=self.JK, JQ=self.JQ, **optional)
        if self.tie_query_key and self.JQ != self.JK:
            raise ValueError(
                f"tie_query_key: got JQ = {self.JQ} and JK = {self.JK}, expected the same"
            )

    def sizes(self, input_dim: int) -> LayerSizes:
        """Fill in the sizes that follow from the others.

        Args:
            input_dim: the number of features of the layer's input.

        Returns:
            All sizes.

        Raises:
            ValueError: DK or DV is None and the input features cannot be divided evenly.
        """
        require_positive(input_dim=input_dim)
        JT = 1 if self.transition is None else self.transition.dim
        JV = JT if self.JV is None else self.JV
        return LayerSizes(
            H=self.num_heads,
            DK=self._features("DK", input_dim, "JK", self.JK),
            DV=self._features("DV", input_dim, "JV", JV),
            JK=self.JK,
            JQ=self.JQ,
            JV=JV,
            JT=JT,
            JO=JT if self.JO is None else self.JO,
        )

    def _features(self, name: str, input_dim: int, letter: str, dim: int) -> int:
        size = getattr(self, name)
        if size is not None:
            return size
        by = self.num_heads * dim
        what = f"input_dim, where {name} is None,"
        require_divisible(what, input_dim, f"num_heads * {letter}", by)
        return input_dim // by

    def output_features(self, input_dim: int, output_dim: int | None) -> int:
        """Fill in and check the number of output features.

        Args:
            input_dim: the number of features of the layer's input, I.
            output_dim: the number that was asked for; None: I, or without an out projection
                H * DV * JO.

        Raises:
            ValueError: `output_dim` is below 1 or does not fit the other sizes.
        """
        inner = self.sizes(input_dim).output
        if output_dim is None:
            output_dim = input_dim if self.outprojection else inner
        require_positive(output_dim=output_dim)
        if not self.outprojection and output_dim != inner:
            raise ValueError(
                f"output_dim: got {output_dim}, expected H * DV * JO = {inner} without an out "
                "projection"
            )
        return output_dim


@dataclass(frozen=True, kw_only=True)
class ConvolvedConfig(PLSTMConfig):
    """The options of a pLSTM layer with a convolution, in addition to those of `PLSTMConfig`.

    Attributes:
        convolution: the convolution before the branches; None: no convolution.
        convolution_inputs: the branches that read the convolved input; the others read the input.
        passthrough: whether the input, times a learned factor for each feature, is added to the
            output.
        branches: a `Literal` of all names that `convolution_inputs` may have.
    """

    branches: ClassVar[Any]

    convolution: Any = None
    convolution_inputs: tuple[str, ...] = ()
    passthrough: bool = False

    def __post_init__(self):
        super().__post_init__()
        branches = get_args(self.branches)
        unknown = [name for name in self.convolution_inputs if name not in branches]
        require(not unknown, "convolution_inputs", unknown, f"names among {', '.join(branches)}")

    def output_features(self, input_dim: int, output_dim: int | None) -> int:
        """Fill in and check the number of output features; see `PLSTMConfig.output_features`."""
        output_dim = super().output_features(input_dim, output_dim)
        if self.passthrough and output_dim != input_dim:
            raise ValueError(
                f"output_dim: got {output_dim}, expected input_dim = {input_dim}: the passthrough "
                "adds the input to the output"
            )
        return output_dim


C = TypeVar("C", bound=PLSTMConfig)
CC = TypeVar("CC", bound=ConvolvedConfig)


class PLSTMLayer(Configured[C]):
    """Projections before the op, norm and out projection after it; a subclass makes the gates.

    Args:
        input_dim: the number of features of the input, I.
        config: the options; None: the defaults of the kind.
        output_dim: the number of features of the output, O; None: I, or without an out projection
            that of the op's output, H * DV * JO.
        dtype: the type to compute in; None: the common type of input and parameters. Gates,
            transitions and states are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Raises:
        ValueError: sizes do not fit each other.
    """

    # None in a 1D layer that neither writes nor joins a step to itself.
    value: Any

    options: ClassVar[type]
    """The class of the config; its defaults are used where no config is given."""

    def __init__(
        self,
        input_dim: int,
        config: C | None = None,
        *,
        output_dim: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kept = Kept(self.options() if config is None else config)
        config = self.config
        sizes = config.sizes(input_dim)
        self.input_dim, self.sizes = input_dim, sizes
        self.output_dim = config.output_features(input_dim, output_dim)
        self.dtype, self.param_dtype = dtype, param_dtype
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self._make_gates(**types)
        direct = (sizes.JO, sizes.JQ, sizes.JK, sizes.JV)
        self.direct = (
            None
            if config.direct is None
            else Gate(sizes.H, input_dim, direct, config.direct, **types)
        )
        sub_heads = sizes.H if config.sub_heads is None else config.sub_heads
        project = partial(HeadProjection, sizes.H, input_dim, sub_heads=sub_heads, **types)
        self.query = project(sizes.DK, sizes.JQ, config.query)
        self.key = None if config.tie_query_key else project(sizes.DK, sizes.JK, config.key)
        self.value = project(sizes.DV, sizes.JV, config.value)
        self._make_convolution(**types)
        self.mhnorm = (
            None
            if config.norm is None
            else Norm(sizes.output, config.norm, num_heads=sizes.H, **types)
        )
        self.outprojection = (
            nnx.Linear(
                sizes.output,
                self.output_dim,
                use_bias=config.outprojection_bias,
                kernel_init=config.outprojection_weight_init,
                bias_init=config.outprojection_bias_init,
                **types,
            )
            if config.outprojection
            else None
        )
        self._make_rest(**types)

    def _make_gates(self, **types: Any) -> None:
        """Make all gates but the direct one."""
        raise NotImplementedError

    def _make_convolution(self, **types: Any) -> None:
        """Make the convolution before the branches, in the layers that can have one."""

    def _make_rest(self, **types: Any) -> None:
        """Make the remaining modules with parameters, last of all."""

    def _normed(self, y: Array) -> Array:
        """Norm each head, and join heads to features: [..., H, DV, JO] -> [..., H * DV * JO]."""
        y = jax.lax.collapse(y, y.ndim - 2)
        if self.mhnorm is not None:
            y = self.mhnorm(y)
        return jax.lax.collapse(y, y.ndim - 2)

    def _leave(self, y: Array) -> Array:
        """Apply the out projection, if there is one: [..., H * DV * JO] -> [..., O]."""
        return y if self.outprojection is None else self.outprojection(y)


class ConvolvedLayer(PLSTMLayer[CC]):
    """A pLSTM layer whose branches read the input or a convolution of it; see `PLSTMLayer`."""

    def _make_rest(self, **types: Any) -> None:
        self.passthrough = Scale(self.input_dim, **types) if self.config.passthrough else None

    def _read(self, branch: str, x: Any, convolved: Any) -> Any:
        """Return the input or the convolved input, whichever a branch reads."""
        return convolved if branch in self.config.convolution_inputs else x

    def _pass(self, y: Array, x: Array) -> Array:
        """Add the input times its learned factors, if there are any."""
        return y if self.passthrough is None else y + self.passthrough(x)
