"""Transitions replaced by the nearest orthogonal ones, to see what inexact ones cost."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from plstm_seq.layers import PLSTM1DLayer
from plstm_seq.models import SequenceModel


class Polar(nnx.Module):
    """A transition, projected onto the orthogonal matrices: `U V^T` of its decomposition `U S V^T`.

    What a transition forgets on purpose is lost, so this is for models that only track.

    Args:
        transition: maps [..., I] to [..., H, JT, JT].
    """

    def __init__(self, transition: nnx.Module):
        self.transition = transition

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S H JT JT"]:
        """The nearest orthogonal matrices, in the Frobenius norm (and every unitary one)."""
        transition: Any = self.transition
        left, _, right = jnp.linalg.svd(transition(x), full_matrices=False)
        return left @ right


def with_orthogonal_transitions(model: SequenceModel) -> SequenceModel:
    """A copy of a model whose pLSTM layers have orthogonal transitions.

    Args:
        model: any; it is not changed.

    Raises:
        ValueError: no block of the model has a pLSTM layer.
    """
    copy = nnx.clone(model)
    layers = [block.mixer for block in copy.blocks if isinstance(block.mixer, PLSTM1DLayer)]
    if not layers:
        raise ValueError("model: got one without a pLSTM layer, whose transitions could be changed")
    for layer in layers:
        projected: Any = Polar(layer.transition)
        layer.transition = projected
    return copy
