"""The options of a 1D pLSTM layer."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from plstm_seq.layers.arguments import require_choice
from plstm_seq.layers.convolution import ConvolutionConfig
from plstm_seq.layers.initializers import Initializer, Normal
from plstm_seq.layers.plstm import CONVOLVED, ConvolvedConfig, LayerSizes
from plstm_seq.layers.transition import Factorized, Table, TransitionConfig

MarkReads = Literal["before", "after"]
Branch = Literal["source", "transition", "mark", "direct", "query", "key", "value", "passthrough"]


@dataclass(frozen=True, kw_only=True)
class PLSTM1DConfig(ConvolvedConfig):
    """The options of a `PLSTM1DLayer`; the defaults are those of the published layer.

    The options that all pLSTM layers share are documented at `PLSTMConfig` and `ConvolvedConfig` in
    `plstm_seq.layers.plstm`; those listed here differ or are added.

    Attributes:
        JV: the value dimension of the source; None: JT, or 1 where nothing is written.
        source: the gate [JT, JK, JV] through which a step writes; None: there is no source, and the
            state is the learned initial state times the transitions.
        transition: the matrix [JT, JT] by which a step multiplies the state; its `dim` is JT. It is
            made from the input, or looked up in a `Table` by token (models of one block).
        key: the key projection; it has no effect with `tie_query_key`. Without a source and a
            direct term there is neither a key nor a value projection.
        convolution: the causal convolution before the branches; None: no convolution.
        mark_reads: "before": output t reads the state before step t and joins step t by the direct
            term (published); "after": it reads the state after step t, and the direct term is added
            to that.
        learned_initial_state: whether the state before the first step is a parameter; if not, it is
            zero.
        initial_state_init: the initialiser of that parameter [H, DK, DV, JT].
        chunk_size: see `plstm_seq.ops.plstm_1d`.
        kind: the name of this mixer in a config.
    """

    branches: ClassVar[Any] = Branch

    transition: TransitionConfig | Table = field(default_factory=Factorized)
    convolution: ConvolutionConfig | None = field(default_factory=ConvolutionConfig)
    convolution_inputs: tuple[Branch, ...] = (*CONVOLVED, "passthrough")
    passthrough: bool = True
    mark_reads: MarkReads = "before"
    learned_initial_state: bool = False
    initial_state_init: Initializer = field(default_factory=Normal)
    chunk_size: int | None = None
    kind: Literal["plstm_1d"] = "plstm_1d"

    def __post_init__(self):
        super().__post_init__()
        require_choice("mark_reads", self.mark_reads, MarkReads)
        if self.source is None and not self.learned_initial_state:
            raise ValueError(
                "source: got None, expected a gate unless learned_initial_state: the state would "
                "stay zero"
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
        """Whether keys and values have any effect."""
        return self.source is not None or self.direct is not None

    def sizes(self, input_dim: int) -> LayerSizes:
        """Fill in the sizes that follow from the others; see `PLSTMConfig.sizes`."""
        sizes = super().sizes(input_dim)
        return sizes if self.writes or self.JV is not None else sizes._replace(JV=1)
