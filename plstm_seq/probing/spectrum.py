"""Eigenvalues and singular values of transitions, and how far from orthogonal they are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float


@dataclass(frozen=True)
class Spectrum:
    """What transitions do to the size and phase of a state.

    Attributes:
        eigenvalues: [..., JT], by falling modulus. On the unit circle a state is kept, inside it
            is forgotten; a negative one takes a parity, a complex one turns.
        singular_values: [..., JT], falling.
        distance: [...], from orthogonality: the spectral norm of `T^T T - I`. The state's length
            changes by at most about half of that in a step.
        determinant: [...].
    """

    eigenvalues: Complex[np.ndarray, "*S JT"]
    singular_values: Float[np.ndarray, "*S JT"]
    distance: Float[np.ndarray, "*S"]
    determinant: Float[np.ndarray, "*S"]


def spectrum(transitions: Float[np.ndarray, "*S JT JT"]) -> Spectrum:
    """Decompose transitions, each by itself.

    Args:
        transitions: such as `TokenGates.transitions`, one a token and head. NaN stays NaN.
    """
    matrices = np.asarray(transitions, np.float64)
    known = np.asarray(np.isfinite(matrices).all((-2, -1)))
    safe = np.where(known[..., None, None], matrices, 0)
    values = np.linalg.eigvals(safe).astype(np.complex128)
    order = np.argsort(-np.abs(values), axis=-1, kind="stable")
    values = np.take_along_axis(values, order, axis=-1)
    singular = np.linalg.svd(safe, compute_uv=False)
    return Spectrum(
        eigenvalues=np.where(known[..., None], values, np.nan),
        singular_values=np.where(known[..., None], singular, np.nan),
        distance=np.where(known, np.abs(singular**2 - 1).max(-1), np.nan),
        determinant=np.where(known, np.linalg.det(safe), np.nan),
    )
