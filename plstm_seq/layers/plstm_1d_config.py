"""The options of a 1D pLSTM layer."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from plstm_seq.layers.convolution import ConvolutionConfig
from plstm_seq.layers.gates import GateConfig
from plstm_seq.layers.head_projection import HeadProjectionConfig
from plstm_seq.layers.initializers import Initializer, Normal, Small, Zeros
from plstm_seq.layers.norm import NormConfig
from plstm_seq.layers.sizes import HasSizes, Sizes
from plstm_seq.layers.transition import Factorized, Table, TransitionConfig

Branch = Literal["source", "transition", "mark", "direct", "query", "key", "value", "passthrough"]


@dataclass(frozen=True)
class PLSTM1DConfig(HasSizes):
    """The options of a `PLSTM1DLayer`; the defaults are those of the published layer.

    Attributes:
        num_heads: the number of heads, H.
        JK: key dimension of the source.
        JQ: query dimension of the mark.
        JV: value dimension of the source; None: JT, or 1 where nothing is written.
        JO: output dimension of the mark; None: JT.
        DK: query and key features a head; None: input features / (H * JK).
        DV: value features a head; None: input features / (H * JV).
        source: the gate [JT, JK, JV] through which a step writes; None: none, the state is the
            learned initial state times the transitions.
        transition: the matrix [JT, JT] by which a step multiplies the state; its `dim` is JT. It is
            made from the input, or looked up in a `Table` by token (models of one block).
        mark: the gate [JO, JQ, JT] through which a step reads.
        direct: the gate [JO, JQ, JK, JV] that joins a step to itself; None: no such term.
        query: the query projection.
        key: the key projection; of no effect with `tie_query_key`. There is neither it nor a value
            projection where nothing is written and nothing joined directly.
        value: the value projection.
        sub_heads: blocks of the query, key and value weights; None: H.
        tie_query_key: whether the query projection also makes the keys.
        convolution: the causal convolution before the branches; None: none.
        convolution_inputs: the branches that read the convolved input; the others read the input.
        norm: the norm over each head's output; None: none.
        passthrough: whether a learned factor a feature times the input is added to the output.
        outprojection: whether a linear map follows the norm.
        outprojection_bias: whether it has a bias.
        outprojection_weight_init: of its kernel [H * DV * JO, output features].
        outprojection_bias_init: of its bias.
        mark_reads: "before": output t reads the state before step t and joins step t by the direct
            term (published); "after": it reads the state after step t, direct term on top.
        learned_initial_state: whether the state before the first step is a parameter; else zero.
        initial_state_init: of that parameter [H, DK, DV, JT].
        chunk_size: see `plstm_seq.ops.plstm_1d`.
        implementation: see `plstm_seq.ops.plstm_1d`.
        kind: tells this mixer from others.
    """

    num_heads: int = 1
    JK: int = 1
    JQ: int = 1
    JV: int | None = None
    JO: int | None = None
    DK: int | None = None
    DV: int | None = None
    source: GateConfig | None = field(default_factory=GateConfig)
    transition: TransitionConfig | Table = field(default_factory=Factorized)
    mark: GateConfig = field(default_factory=GateConfig)
    direct: GateConfig | None = field(default_factory=GateConfig)
    query: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    key: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    value: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    sub_heads: int | None = None
    tie_query_key: bool = False
    convolution: ConvolutionConfig | None = field(default_factory=ConvolutionConfig)
    convolution_inputs: tuple[Branch, ...] = (
        "source",
        "transition",
        "mark",
        "direct",
        "query",
        "key",
        "passthrough",
    )
    norm: NormConfig | None = field(default_factory=NormConfig)
    passthrough: bool = True
    outprojection: bool = True
    outprojection_bias: bool = False
    outprojection_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    outprojection_bias_init: Initializer = field(default_factory=Zeros)
    mark_reads: Literal["before", "after"] = "before"
    learned_initial_state: bool = False
    initial_state_init: Initializer = field(default_factory=Normal)
    chunk_size: int | None = None
    implementation: str | None = None
    kind: Literal["plstm_1d"] = "plstm_1d"

    def __post_init__(self):
        self.check_sizes()
        if self.mark_reads not in ("before", "after"):
            raise ValueError(f"mark_reads: got {self.mark_reads!r}, expected 'before' or 'after'")
        if self.source is None and not self.learned_initial_state:
            raise ValueError(
                "source: got None, expected a gate unless learned_initial_state: the state would "
                "stay zero"
            )
        unknown = [name for name in self.convolution_inputs if name not in get_args(Branch)]
        if unknown:
            raise ValueError(
                f"convolution_inputs: got {unknown}, expected names among {get_args(Branch)}"
            )
        if self.needs_tokens and self.convolves_transition:
            raise ValueError(
                "convolution: got one that the transition reads, expected None with a table of "
                "transitions by token, or convolution_inputs without 'transition'"
            )

    @property
    def needs_tokens(self) -> bool:
        """Whether the layer has to know its tokens: the transitions are a table by token."""
        return isinstance(self.transition, Table)

    @property
    def convolves_transition(self) -> bool:
        """Whether transitions depend on inputs before their own step."""
        return self.convolution is not None and "transition" in self.convolution_inputs

    @property
    def writes(self) -> bool:
        """Whether keys and values are of any effect."""
        return self.source is not None or self.direct is not None

    def sizes(self, input_dim: int) -> Sizes:
        """Fill in the sizes that follow from the others; see `HasSizes.sizes`."""
        sizes = super().sizes(input_dim)
        return sizes if self.writes or self.JV is not None else sizes._replace(JV=1)
