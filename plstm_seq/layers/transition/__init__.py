"""Transitions: maps from the input to the matrices that multiply the state.

A config chooses the family and its options; `Transition(num_heads, input_dim, config, rngs=...)` is
the layer. A `Table` is different: its layer, `TransitionTable`, looks matrices up by token.
`layers/README.md` compares the families.
"""

from plstm_seq.layers.transition.base import Table, Transition, TransitionTable
from plstm_seq.layers.transition.factorized import Factorized
from plstm_seq.layers.transition.families import Bounded, Diagonal, HouseholderProduct, Orthogonal
from plstm_seq.layers.transition.selection import Selection

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
