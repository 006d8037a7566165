"""Configurations known to work."""

from plstm_seq.layers import GateConfig, PLSTM1DConfig, TransitionConfig
from plstm_seq.layers.initializers import Constant, Diagonal, FanIn
from plstm_seq.models.blocks import PostUpConfig
from plstm_seq.models.sequence import SequenceModelConfig


def state_tracking(
    transition: TransitionConfig,
    *,
    width: int = 64,
    num_blocks: int = 1,
    num_heads: int = 4,
    DK: int = 4,
    DV: int = 4,
) -> SequenceModelConfig:
    """Return a small model that learns to track a state, one label a token.

    What it needs beyond the published defaults, each of them necessary or of great help where it
    was tried: a learned initial state, so that there is something to act on before the input has
    written anything; source gates almost closed at the start, so that the transitions have to do
    the work; a mark that starts as the identity and reads the state after its step, because the
    label of a step depends on its own token; transitions of unit scale in the input (the
    initialisers of `transition`); no convolution, so that a transition depends on its own token
    alone.

    Args:
        transition: the transitions, with JT = their `dim`; JT is the value and output dimension
            too.
        width: features between blocks.
        num_blocks: number of blocks.
        num_heads: the number of heads, H.
        DK: query and key features a head.
        DV: value features a head.

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
            bias_init=Diagonal(1.0, in_axes=-1, out_axes=-3),
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
