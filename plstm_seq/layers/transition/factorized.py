"""The published parametrisation: eigenvalues between two normalised projections.

Below it are the normalisations of the published code (github.com/ml-jku/plstm), defects included.
They are what published weights were trained with, and nothing else should use them. What is wrong
with each is said in its docstring; `matrices.py` has the sound functions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.activations import expexp, logsigmoid
from plstm_seq.layers.arguments import require_above_zero, require_choice, require_count
from plstm_seq.layers.initializers import Initializer, Ones, ScaledIdentity, Zeros
from plstm_seq.layers.transition import matrices
from plstm_seq.layers.transition.base import Parametrization, Quantity
from plstm_seq.ops.sequence.levels import small_matmul

EigenvalueRepresentation = Literal["logsigmoid", "expexp", "tanh"]
NormalizationMode = Literal[
    "qr",
    "eigenvalue_restriction",
    "singularvalue_restriction",
    "householder_orthogonalization",
    "exponential_orthogonalization",
]
_PUBLISHED_ORDER = 16


@dataclass(frozen=True)
class Factorized(Parametrization):
    """`out_mat . diag(activation(eigenvalues)) . in_mat` with normalised projections.

    The layer of the published code (arXiv 2506.11997), with its defaults: zero weights, and near
    the identity. With `dim = 1` there are no projections, only the eigenvalue. The
    orthogonalising modes make it a singular value decomposition, so the transition never grows a
    state; `eigenvalue_restriction` also restricts the product, but products over *time* may grow.

    Attributes:
        eigenvalue_representation: "logsigmoid": `sigmoid(x) ** factor` in [0, 1]; "expexp":
            `exp(-factor exp(-x))` in [0, 1]; "tanh": `tanh(factor x)` in [-1, 1].
        eigenvalue_factor: the factor in them, positive.
        symmetric: `out_mat` is the transpose of `in_mat` and has no parameters.
        normalization_mode: what is done to both projections; `transition/matrices.py`.
        orthogonalization_factor: the factor in front of the skew matrix, in the mode
            "exponential_orthogonalization"; the others have none (1).
        published_normalization: use the published functions, whose defects
            their docstrings tell, instead of the sound ones; for published weights.
        orthogonalization_order: terms of the published series, or iterations of the published
            restrictions (None: 16); only with `published_normalization`, ours stop when exact.
        eigenvalue_bias_init: of `eigenvalues_bias` [H, JT].
        eigenvalue_weight_init: of `eigenvalues_weight` [H / S, S, JT, I / S].
        inproj_bias_init: of `inproj_bias` [H, JT, JT].
        inproj_weight_init: of `inproj_weight` [H / S, S, JT, JT, I / S].
        outproj_bias_init: of `outproj_bias`, shaped like `inproj_bias`.
        outproj_weight_init: of `outproj_weight`, shaped like `inproj_weight`.

    Example:
        At the start all are near the identity.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from flax import nnx
        >>> from plstm_seq.layers.transition import Factorized, Transition
        >>> config = Factorized(dim=2)
        >>> transition = Transition(1, 4, config, rngs=nnx.Rngs(0))
        >>> matrix = jax.jit(transition)(jnp.arange(4.0))[0]
        >>> bool(np.allclose(matrix, np.eye(2), atol=1e-3))
        True
    """

    leaf_fields: ClassVar[tuple[str, ...]] = ("eigenvalue_factor", "orthogonalization_factor")

    eigenvalue_representation: EigenvalueRepresentation = "tanh"
    eigenvalue_factor: float = 5.0
    symmetric: bool = False
    normalization_mode: NormalizationMode = "exponential_orthogonalization"
    orthogonalization_factor: float = 1.0
    published_normalization: bool = False
    orthogonalization_order: int | None = None
    eigenvalue_bias_init: Initializer = field(default_factory=Ones)
    eigenvalue_weight_init: Initializer = field(default_factory=Zeros)
    inproj_bias_init: Initializer = field(default_factory=ScaledIdentity)
    inproj_weight_init: Initializer = field(default_factory=Zeros)
    outproj_bias_init: Initializer = field(default_factory=ScaledIdentity)
    outproj_weight_init: Initializer = field(default_factory=Zeros)
    kind: Literal["factorized"] = "factorized"

    def __post_init__(self):
        super().__post_init__()
        representation, mode = self.eigenvalue_representation, self.normalization_mode
        require_choice("eigenvalue_representation", representation, EigenvalueRepresentation)
        require_choice("normalization_mode", mode, NormalizationMode)
        require_above_zero(eigenvalue_factor=self.eigenvalue_factor)
        exponential = self.normalization_mode == "exponential_orthogonalization"
        if self.orthogonalization_factor != 1 and not exponential:
            raise ValueError(
                f"orthogonalization_factor: got {self.orthogonalization_factor}, expected 1.0: "
                f"the mode {self.normalization_mode!r} has no factor"
            )
        if self.orthogonalization_order is not None:
            require_count(orthogonalization_order=self.orthogonalization_order)
            if not self.published_normalization:
                raise ValueError(
                    f"orthogonalization_order: got {self.orthogonalization_order}, expected None: "
                    "only the published normalisations are truncated"
                )

    def quantities(self) -> dict[str, Quantity]:
        """Return the eigenvalues and, if `dim > 1`, the projections."""
        eigenvalues = Quantity((self.dim,), self.eigenvalue_bias_init, self.eigenvalue_weight_init)
        if self.dim == 1:
            return {"eigenvalues": eigenvalues}
        shape = (self.dim, self.dim)
        inproj = Quantity(shape, self.inproj_bias_init, self.inproj_weight_init)
        outproj = Quantity(shape, self.outproj_bias_init, self.outproj_weight_init)
        projections = (
            {"inproj": inproj} if self.symmetric else {"inproj": inproj, "outproj": outproj}
        )
        return {"eigenvalues": eigenvalues} | projections

    def matrix(self, quantities: Mapping[str, Array], num_heads: int) -> Float[Array, "*S H JT JT"]:
        """Multiply the three factors; see `Parametrization.matrix`."""
        del num_heads
        eigenvalues = self._eigenvalues(quantities["eigenvalues"])
        if self.dim == 1:
            return eigenvalues[..., None]
        in_mat = self._normalize(quantities["inproj"])
        if self.symmetric:
            out_mat = jnp.swapaxes(in_mat, -1, -2)
        else:
            out_mat = self._normalize(quantities["outproj"])
        product = small_matmul(out_mat * eigenvalues[..., None, :], in_mat)
        restricted = self.normalization_mode == "eigenvalue_restriction"
        if restricted and not self.published_normalization:
            return matrices.eigenvalue_restriction(product)
        return product

    def _eigenvalues(self, x: Array) -> Array:
        match self.eigenvalue_representation:
            case "logsigmoid":
                return logsigmoid(x, self.eigenvalue_factor)
            case "expexp":
                return expexp(-x, self.eigenvalue_factor)
            case "tanh":
                return jnp.tanh(self.eigenvalue_factor * x)

    def _normalize(self, matrix: Array) -> Array:
        factor = self.orthogonalization_factor
        if not self.published_normalization:
            if self.normalization_mode == "exponential_orthogonalization":
                return matrices.exponential_orthogonalization(matrix, factor)
            return getattr(matrices, self.normalization_mode)(matrix)
        order = self.orthogonalization_order or _PUBLISHED_ORDER
        match self.normalization_mode:
            case "qr":
                return published_qr(matrix)
            case "householder_orthogonalization":
                return _householder_orthogonalization(matrix)
            case "exponential_orthogonalization":
                return _exponential_orthogonalization(matrix, factor, order)
            case "eigenvalue_restriction":
                return _eigenvalue_restriction(matrix, order)
            case "singularvalue_restriction":
                return _singularvalue_restriction(matrix, order)


_EPS = 1e-3


@jax.jit
def published_qr(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return Q with LAPACK's signs: the determinant is that of J - 1 reflections for almost all.

    (The published code also rounds to float32 first; this does not.)
    """
    return matrices.orthogonal_factor(matrix, lapack_signs=True)


@partial(jax.jit, static_argnames="order")
def _exponential_orthogonalization(
    matrix: Float[Array, "*S J J"], factor: float | Float[Array, ""], order: int
) -> Float[Array, "*S J J"]:
    """Return the first `order` terms of the exponential series, without scaling and squaring.

    Orthogonal only while the norm of `factor (matrix - matrix^T)` is small; grows like its power
    `order - 1` beyond.
    """
    skew = factor * matrices.skew_part(matrix)
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def horner(tail: Array, n: Array) -> tuple[Array, None]:
        return identity + small_matmul(skew, tail) / n, None

    start = jnp.broadcast_to(identity, matrix.shape)
    return jax.lax.scan(horner, start, jnp.arange(order - 1, 0, -1))[0]


@jax.jit
def _householder_orthogonalization(matrix: Float[Array, "*S J J"]) -> Float[Array, "*S J J"]:
    """Return minus the product of the first `2^floor(log2 J)` reflections along the rows.

    The rest is dropped, so unless J is a power of two rows have no effect; an epsilon of 1e-5 in
    the lengths leaves it orthogonal to 1e-4 only.
    """
    kept = matrix[..., : 2 ** int(math.log2(matrix.shape[-1])), :]
    directions = kept / (jnp.linalg.norm(kept, axis=-1, keepdims=True) + 1e-5)
    return -matrices.reflection_product(directions, jnp.full(kept.shape[:-1], 2, matrix.dtype))


@partial(jax.jit, static_argnames="iterations")
def _eigenvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest eigenvalue, where that exceeds 1.

    The iteration looks for a real eigenvalue: it finds none where the leading ones are complex,
    and the result may have any spectral radius.
    """
    return matrix / _restriction(matrix, matrix, iterations)


@partial(jax.jit, static_argnames="iterations")
def _singularvalue_restriction(
    matrix: Float[Array, "*S J J"], iterations: int
) -> Float[Array, "*S J J"]:
    """Divide by a power iteration's estimate of the largest singular value, where that exceeds 1.

    The estimate is from below: singular values up to about 1.002 remain.
    """
    gram = small_matmul(matrix, jnp.swapaxes(matrix, -1, -2))
    return matrix / jnp.sqrt(_restriction(matrix, gram, iterations))


def _restriction(matrix: Array, target: Array, iterations: int) -> Array:
    """The largest eigenvalue of `target`, at least 1, `[..., 1, 1]`; 1 near the identity.

    Two power iterations, on `target - 1` and then, should the first have found a negative
    eigenvalue, on the target shifted by that.
    """
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    from_one = target - identity
    start = jnp.arange(1, matrix.shape[-1] + 1, dtype=matrix.dtype)[:, None]
    vector = _power_iteration(
        from_one, jnp.broadcast_to(start, (*matrix.shape[:-1], 1)), iterations
    )
    first = _quadratic_form(vector, from_one)
    shift = jnp.where(first < 0, 1 + first, 1)
    shifted = target - shift * identity
    vector = _power_iteration(shifted, vector, iterations)
    eigenvalue = jnp.maximum(_quadratic_form(vector, shifted) + shift, 1)
    near_identity = jnp.sum(jnp.abs(from_one), axis=(-2, -1), keepdims=True) < _EPS
    return jnp.where(near_identity, 1, eigenvalue)


def _power_iteration(matrix: Array, vector: Array, iterations: int) -> Array:
    def step(vector: Array, _: None) -> tuple[Array, None]:
        image = small_matmul(matrix, vector)
        return image / (jnp.linalg.norm(image, axis=-2, keepdims=True) + _EPS), None

    return jax.lax.scan(step, vector, None, length=iterations)[0]


def _quadratic_form(vector: Array, matrix: Array) -> Array:
    return small_matmul(jnp.swapaxes(vector, -1, -2), small_matmul(matrix, vector))
