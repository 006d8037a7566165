"""The options of a 2D pLSTM layer."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from plstm_seq.layers.gates import GateConfig
from plstm_seq.layers.grid.convolution import GridConvolutionConfig
from plstm_seq.layers.head_projection import HeadProjectionConfig
from plstm_seq.layers.initializers import Initializer, Linspace, Small, Zeros
from plstm_seq.layers.norm import NormConfig
from plstm_seq.layers.sizes import HasSizes
from plstm_seq.layers.transition import Factorized, TransitionConfig

Mode = Literal["P", "D"]
Chirality = Literal["L", "R"]
PForm = Literal["shared", "published"]
NormOf = Literal["sum", "orientation"]
GateOrder = Literal["orientation", "head"]
GridBranch = Literal[
    "source", "transition", "mark", "direct", "query", "key", "value", "orientation", "passthrough"
]


@dataclass(frozen=True)
class PLSTM2DConfig(HasSizes):
    """The options of a `PLSTM2DLayer`; the defaults are those of the published layer, made sound.

    One config serves both modes: `orientation_*` and `p_form` act in P-mode, `chirality` in D-mode.

    Attributes:
        num_heads: the number of heads, H.
        JK: key dimension of the source.
        JQ: query dimension of the mark.
        JV: value dimension of the source; None: JT.
        JO: output dimension of the mark; None: JT.
        DK: query and key features a head; None: input features / (H * JK).
        DV: value features a head; None: input features / (H * JV).
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
        query: the query projection.
        key: the key projection; of no effect with `tie_query_key`.
        value: the value projection.
        sub_heads: blocks of the query, key and value weights; None: H.
        tie_query_key: whether the query projection also makes the keys.
        convolution: the convolution before the branches; None: none.
        convolution_inputs: the branches that read the convolved input; the others read the input.
        norm: the norm over each head's output; None: none.
        norm_of: "sum": the outputs of the orientations are added and the sum is normalised;
            "orientation": each is normalised for itself, direct term included, and the mean is
            taken, as in the published layer that does not fuse them.
        passthrough: whether a learned factor a feature times the input is added to the output.
        outprojection: whether a linear map follows the norm.
        outprojection_bias: whether it has a bias.
        outprojection_weight_init: of its kernel [H * DV * JO, output features].
        outprojection_bias_init: of its bias.
        implementation: see `plstm_seq.ops.plstm_2d`.
        kind: tells this mixer from others.
    """

    num_heads: int = 1
    JK: int = 1
    JQ: int = 1
    JV: int | None = None
    JO: int | None = None
    DK: int | None = None
    DV: int | None = None
    orientations: tuple[int, ...] = (0, 1, 2, 3)
    source: GateConfig = field(default_factory=GateConfig)
    transition: TransitionConfig = field(default_factory=lambda: Factorized(dim=1))
    mark: GateConfig = field(default_factory=GateConfig)
    direct: GateConfig | None = field(default_factory=GateConfig)
    orientation_scale: float = 0.5
    orientation_bias_init: Initializer = field(default_factory=lambda: Linspace(-2.0, 2.0))
    orientation_weight_init: Initializer = field(default_factory=Zeros)
    p_form: PForm = "shared"
    chirality: Chirality = "L"
    gate_order: GateOrder = "orientation"
    query: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    key: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    value: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    sub_heads: int | None = None
    tie_query_key: bool = False
    convolution: GridConvolutionConfig | None = None
    convolution_inputs: tuple[GridBranch, ...] = (
        "source",
        "transition",
        "mark",
        "direct",
        "query",
        "key",
        "orientation",
    )
    norm: NormConfig | None = field(default_factory=NormConfig)
    norm_of: NormOf = "sum"
    passthrough: bool = False
    outprojection: bool = True
    outprojection_bias: bool = False
    outprojection_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    outprojection_bias_init: Initializer = field(default_factory=Zeros)
    implementation: str | None = None
    kind: Literal["plstm_2d"] = "plstm_2d"

    def __post_init__(self):
        self.check_sizes()
        if not self.orientations or not set(self.orientations) <= {0, 1, 2, 3}:
            raise ValueError(
                f"orientations: got {self.orientations}, expected some of the numbers 0 to 3"
            )
        choices = {
            "p_form": PForm,
            "chirality": Chirality,
            "gate_order": GateOrder,
            "norm_of": NormOf,
        }
        for name, options in choices.items():
            if getattr(self, name) not in get_args(options):
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {get_args(options)}"
                )
        unknown = [name for name in self.convolution_inputs if name not in get_args(GridBranch)]
        if unknown:
            raise ValueError(
                f"convolution_inputs: got {unknown}, expected names among {get_args(GridBranch)}"
            )
