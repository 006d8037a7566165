"""The options of a graph model."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from plstm_seq.layers import NormConfig
from plstm_seq.layers.checks import require_count, require_positive
from plstm_seq.layers.dag import Direction, GraphMixerConfig, Mode, PLSTMDAGConfig
from plstm_seq.layers.initializers import Initializer, Small
from plstm_seq.models.blocks import BlockConfig, PostUpConfig

Pooling = Literal["sum", "mean", "max", "node"]


@dataclass(frozen=True)
class GraphModelConfig:
    """The options of a `GraphModel`.

    Attributes:
        width: D, the features of a node between the blocks.
        num_blocks: how many blocks.
        mode: the modes of the pLSTM layers, a letter a block, repeated over the blocks: "PD", "P",
            "D", ...; a model with a D needs graphs that know their multitree. Of no effect with
            other mixers.
        directions: of the pLSTM layers; each is kept for a whole round of `mode`, and they are
            repeated over the rounds. Of no effect with other mixers.
        block: the kind of block and its options.
        mixer: the mixer in each block.
        pooling: what the head reads. "sum", "mean", "max": over the nodes of a graph; "node":
            every node, which gets logits of its own.
        norm: the norm before the pooling; None: none.
        logit_soft_cap: logits are capped smoothly at plus and minus this; None: not.
        embed_init: of the embedding's kernel [features, D] or table [symbols, D].
        head_init: of the head's kernel.
        kind: tells this model from others.
    """

    width: int = 64
    num_blocks: int = 4
    mode: str = "PD"
    directions: tuple[Direction, ...] = ("forward",)
    block: BlockConfig = field(default_factory=lambda: PostUpConfig(projection_scaling=2.0))
    mixer: GraphMixerConfig = field(default_factory=PLSTMDAGConfig)
    pooling: Pooling = "mean"
    norm: NormConfig | None = field(default_factory=NormConfig)
    logit_soft_cap: float | None = None
    embed_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    head_init: Initializer = field(default_factory=lambda: Small(axis=-2))
    kind: Literal["graph"] = "graph"

    def __post_init__(self):
        require_positive(width=self.width)
        require_count(num_blocks=self.num_blocks)
        if not self.mode or not set(self.mode) <= set(get_args(Mode)):
            raise ValueError(f"mode: got {self.mode!r}, expected letters among {get_args(Mode)}")
        if not self.directions or not set(self.directions) <= set(get_args(Direction)):
            raise ValueError(
                f"directions: got {self.directions}, expected some among {get_args(Direction)}"
            )
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling: got {self.pooling!r}, expected one of {get_args(Pooling)}")
        if self.block.drop_path is not None:
            raise ValueError(
                f"block.drop_path: got {self.block.drop_path}, expected None: it leaves out whole "
                "examples, and nodes of one graph are none"
            )
        if self.logit_soft_cap is not None and not self.logit_soft_cap > 0:
            raise ValueError(f"logit_soft_cap: got {self.logit_soft_cap}, expected above 0 or None")

    @property
    def ways(self) -> tuple[tuple[Mode, Direction], ...]:
        """The mode and the direction of every block."""
        named: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
        modes, directions = len(self.mode), len(self.directions)
        return tuple(
            (named[self.mode[i % modes]], self.directions[i // modes % directions])
            for i in range(self.num_blocks)
        )
