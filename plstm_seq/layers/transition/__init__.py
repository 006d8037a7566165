"""Transitions: maps from the input to the matrices that multiply the state.

A config says which family and how; `Transition(num_heads, input_dim, config, rngs=...)` is the
layer. `Table` is no such map: its matrices are looked up by token, and its layer is
`TransitionTable`. `layers/README.md` compares the families.
"""

from plstm_seq.layers.transition.bounded import Bounded
from plstm_seq.layers.transition.diagonal import Diagonal
from plstm_seq.layers.transition.factorized import Factorized
from plstm_seq.layers.transition.householder import HouseholderProduct
from plstm_seq.layers.transition.module import Transition
from plstm_seq.layers.transition.orthogonal import Orthogonal
from plstm_seq.layers.transition.selection import Selection
from plstm_seq.layers.transition.table import Table, TransitionTable

TransitionConfig = Factorized | Orthogonal | HouseholderProduct | Bounded | Diagonal | Selection

__all__ = [
    "Bounded",
    "Diagonal",
    "Factorized",
    "HouseholderProduct",
    "Orthogonal",
    "Selection",
    "Table",
    "Transition",
    "TransitionConfig",
    "TransitionTable",
]
