"""What transitions do to a state: their spectra, and the part of it that is reached and read."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from plstm_seq.probing.recording import LayerRecord, TokenGates


@dataclass(frozen=True)
class Spectrum:
    """The effect of transitions on the size and phase of a state.

    Attributes:
        eigenvalues: [..., JT], by falling modulus. Where the modulus is 1 the state is kept, where
            it is smaller it is forgotten. A negative eigenvalue can track a parity, a complex one
            turns the state.
        singular_values: [..., JT], falling.
        distance: [...], the distance from orthogonality: the spectral norm of `T^T T - I`. The
            length of the state changes by at most about half of it in a step.
        determinant: [...], the determinant of each transition.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import Spectrum, spectrum
        >>> turn: Spectrum = spectrum(np.array([[0, -1], [1, 0]]))
        >>> np.abs(turn.eigenvalues).tolist(), bool(turn.distance < 1e-9)
        ([1.0, 1.0], True)
    """

    eigenvalues: Complex[np.ndarray, "*S JT"]
    singular_values: Float[np.ndarray, "*S JT"]
    distance: Float[np.ndarray, "*S"]
    determinant: Float[np.ndarray, "*S"]


def spectrum(transitions: Float[np.ndarray, "*S JT JT"]) -> Spectrum:
    """Compute the spectrum of each transition.

    Args:
        transitions: any matrices, such as `TokenGates.transitions`. NaN stays NaN.

    Example:
        A reflection, and a transition that forgets half of the state at a step.

        >>> import numpy as np
        >>> from plstm_seq.probing import spectrum
        >>> found = spectrum(np.array([[[1, 0], [0, -1]], [[1, 0], [0, 0.5]]]))
        >>> found.determinant.tolist(), found.distance.tolist()
        ([-1.0, 0.5], [0.0, 0.75])
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


@dataclass(frozen=True)
class Realization:
    """The transitions of one head on the part of its state that is both reached and read.

    In control theory it is a minimal realization of the recurrence.

    Two recurrences with the same outputs have the same minimal realization up to a change of basis
    (Kalman, 1963). So what a probe finds in it depends neither on the basis in which a model
    happens to compute nor on dimensions that the model does not use.

    Attributes:
        transitions: [V, m, m], one for each token.
        reached: the dimension of the reachable subspace.
        seen: the dimension of the space that the mark reads, out of all JT.
        start: [m, R], the columns that were given as `start`, in the same coordinates.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import Realization, realization
        >>> found: Realization = realization(np.eye(3)[None], np.eye(3)[:, :2], np.eye(3)[1:])
        >>> found.reached, found.seen, found.dim
        (2, 2, 1)
    """

    transitions: Float[np.ndarray, "V M M"]
    reached: int
    seen: int
    start: Float[np.ndarray, "M R"]

    @property
    def dim(self) -> int:
        """m, the dimension of the part that is both reached and read."""
        return self.transitions.shape[-1]


def realization(
    transitions: Float[np.ndarray, "V JT JT"],
    start: Float[np.ndarray, "JT R"],
    read: Float[np.ndarray, "M JT"],
    *,
    tolerance: float = 1e-3,
) -> Realization:
    """Restrict transitions to the reachable part of the state, without directions never read.

    Args:
        transitions: one for each token, which acts as `C <- T C`.
        start: columns that span the initial states and what is written.
        read: rows that read the state.
        tolerance: directions whose singular value is below this share of the largest one are taken
            as absent.

    Example:
        The second number of the state is never read, so that what happens to it does not count.

        >>> import numpy as np
        >>> from plstm_seq.probing import realization
        >>> transitions = np.array([[[-1.0, 0.0], [0.0, 0.3]]])
        >>> found = realization(transitions, start=np.ones((2, 1)), read=np.array([[1.0, 0.0]]))
        >>> found.dim, found.transitions.round(6).tolist()
        (1, [[[-1.0]]])
    """
    matrices = np.asarray(transitions, np.float64)
    transposed = np.swapaxes(matrices, -1, -2)
    start, read = np.asarray(start, np.float64), np.asarray(read, np.float64)
    reach = _closure(start, matrices, tolerance)
    within = reach.T @ matrices @ reach
    sight = _closure((read @ reach).T, np.swapaxes(within, -1, -2), tolerance)
    return Realization(
        transitions=sight.T @ within @ sight,
        reached=reach.shape[1],
        seen=_closure(read.T, transposed, tolerance).shape[1],
        start=sight.T @ reach.T @ start,
    )


def realizations(
    record: LayerRecord, gates: TokenGates, *, tolerance: float = 1e-3
) -> tuple[Realization, ...]:
    """Compute the realization of every head of a layer, from its gates by token.

    The initial state and what the sources write are reached; what the marks read is seen.

    Args:
        record: the record of the layer.
        gates: the gates by token of the same layer.
        tolerance: see `realization`.

    Example:
        A head that turns the plane reaches and reads both of its dimensions.

        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import by_token, realizations, record
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> recording = record(model, jnp.array([[0, 1, 2, 1]]))
        >>> gates = by_token(recording, num_tokens=3)
        >>> [part.dim for part in realizations(recording.layers[0], gates)]
        [2]
    """
    heads = record.transition.shape[2]
    size = record.transition.shape[-1]
    written = np.einsum("bthiaw,bthka,bthvw->hikvbt", record.source, record.key, record.value)
    found = []
    for head in range(heads):
        start = record.initial_state[head].reshape(-1, size).T
        # A direction counts as much as is usually written along it.
        columns = written[head].reshape(size, -1)
        usual = _root(columns @ columns.T / max(1, columns.shape[1]))
        marks = gates.mean["mark"][:, head]
        read = marks[np.isfinite(marks).all((1, 2, 3))].reshape(-1, size)
        known = gates.transitions[:, head]
        found.append(
            realization(known, np.concatenate([start, usual], 1), read, tolerance=tolerance)
        )
    return tuple(found)


def _closure(vectors: np.ndarray, matrices: np.ndarray, tolerance: float) -> np.ndarray:
    """Return an orthonormal basis [n, r] of the smallest invariant subspace with given columns."""
    matrices = matrices[np.isfinite(matrices).all((-2, -1))]
    basis = _basis(vectors, tolerance)
    while basis.shape[1]:
        images = np.moveaxis(matrices @ basis, 0, 1).reshape(len(basis), -1)
        larger = _basis(np.concatenate([basis, images], axis=1), tolerance)
        if larger.shape[1] == basis.shape[1]:
            break
        basis = larger
    return basis


def _basis(vectors: np.ndarray, tolerance: float) -> np.ndarray:
    left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    return left[:, sizes > tolerance * max(sizes.max(initial=0), np.finfo(float).tiny)]


def _root(gram: np.ndarray) -> np.ndarray:
    """Return a square matrix R such that `R R^T` is the given matrix."""
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(np.maximum(values, 0))
