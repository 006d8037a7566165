"""The options of a pLSTM layer over directed acyclic graphs."""

from dataclasses import dataclass, field
from typing import Literal

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.gates import GateConfig
from plstm_seq.layers.head_projection import HeadProjectionConfig
from plstm_seq.layers.initializers import Constant, Initializer, Small, Zeros
from plstm_seq.layers.norm import NormConfig
from plstm_seq.layers.sizes import HasSizes
from plstm_seq.layers.transition import TransitionConfig

Mode = Literal["P", "D"]
Published = Literal["node", "edge"]


def _gate() -> GateConfig:
    return GateConfig(weight=True, activation="sigmoid", bias_init=Constant(-5.0))


def _share() -> GateConfig:
    return GateConfig(weight=True, activation="identity", bias_init=Constant(3.0))


@dataclass(frozen=True)
class PLSTMDAGConfig(HasSizes):
    """The options of a `PLSTMDAGLayer`; one config serves both modes.

    Attributes:
        num_heads: the number of heads, H.
        JK: key dimension of the source.
        JQ: query dimension of the mark.
        JV: value dimension of the source; None: JT.
        JO: output dimension of the mark; None: JT.
        DK: query and key features a head; None: input features / (H * JK).
        DV: value features a head; None: input features / (H * JV).
        max_edges: the places among the edges of a node that have gates of their own, for edges in
            and out each; further edges have those of the last place. With 1 the order of edges
            makes no difference, and edges are told apart by their features.
        source: the gate [JT, JK, JV] through which a node writes to an edge that leaves it.
        share: the number of each line. P-mode divides it by `share_offset` and the absolute values
            of all lines out of the same edge. Without `transition` D-mode takes its tanh.
        share_offset: see `share`; what it keeps back.
        transition: the matrix [JT, JT] of each line, in P-mode times its share; None: JT = 1, and
            the number alone.
        mark: the gate [JO, JQ, JT] through which a node reads an edge that enters it.
        mark_reads: "before": a node reads the state of an edge as it comes; "after": multiplied by
            a transition of the node's own, as on the way to a further edge (needs `transition`).
        direct: the gate [JO, JQ, JK, JV] that joins a node to itself; None: none.
        query: the query projection.
        key: the key projection; of no effect with `tie_query_key`.
        value: the value projection.
        sub_heads: blocks of the query, key and value weights.
        tie_query_key: whether the query projection also makes the keys.
        scale: factor of the op's output; None: `DK ** -0.5`.
        norm: the norm over each head's output; None: none.
        outprojection: whether a linear map follows the norm.
        outprojection_bias: whether it has a bias.
        outprojection_weight_init: of its kernel [H * DV * JO, output features].
        outprojection_bias_init: of its bias.
        published: None; or for published weights what the published layers do otherwise. "node":
            an edge is written to at its place among those that enter its head, and read at that
            among those that leave its tail; P-mode sums over all `max_edges` places, whether there
            are edges or not, and places beyond the edges into a node carry nothing. "edge": P-mode
            sums over the lines *into* an edge, which bounds what arrives and not what leaves, and
            a line reads the node that its first edge leaves, not the one between the two.
        implementation: see `plstm_seq.ops.plstm_dag`.
        kind: tells this mixer from others.
    """

    num_heads: int = 4
    JK: int = 1
    JQ: int = 1
    JV: int | None = None
    JO: int | None = None
    DK: int | None = None
    DV: int | None = None
    max_edges: int = 1
    source: GateConfig = field(default_factory=_gate)
    share: GateConfig = field(default_factory=_share)
    share_offset: float = 0.5
    transition: TransitionConfig | None = None
    mark: GateConfig = field(default_factory=_gate)
    mark_reads: Literal["before", "after"] = "before"
    direct: GateConfig | None = field(default_factory=_gate)
    query: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    key: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    value: HeadProjectionConfig = field(default_factory=HeadProjectionConfig)
    sub_heads: int = 1
    tie_query_key: bool = False
    scale: float | None = None
    norm: NormConfig | None = field(default_factory=NormConfig)
    outprojection: bool = True
    outprojection_bias: bool = True
    outprojection_weight_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    outprojection_bias_init: Initializer = field(default_factory=Zeros)
    published: Published | None = None
    implementation: str | None = None
    kind: Literal["plstm_dag"] = "plstm_dag"

    def __post_init__(self):
        self.check_sizes()
        require_positive(max_edges=self.max_edges)
        if not self.share_offset > 0:
            raise ValueError(f"share_offset: got {self.share_offset}, expected above 0")
        choices = {"mark_reads": ("before", "after"), "published": (None, "node", "edge")}
        for name, options in choices.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {options}")
        if self.mark_reads == "after" and self.transition is None:
            raise ValueError(
                "mark_reads: got 'after', expected 'before' without a transition: what is read "
                "after a number alone is that of the mark"
            )
