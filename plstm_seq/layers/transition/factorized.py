"""The published family of transitions: eigenvalues between two normalised projections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from plstm_seq.layers.activations import expexp, logsigmoid
from plstm_seq.layers.arguments import require_above_zero, require_choice, require_count
from plstm_seq.layers.initializers import Diagonal, Initializer, Ones, Zeros
from plstm_seq.layers.transition import matrices, published
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
            `transition/published.py` tells, instead of the sound ones; for published weights.
        orthogonalization_order: terms of the published series, or iterations of the published
            restrictions (None: 16); only with `published_normalization`, ours stop when exact.
        eigenvalue_bias_init: of `eigenvalues_bias` [H, JT].
        eigenvalue_weight_init: of `eigenvalues_weight` [H / S, S, JT, I / S].
        inproj_bias_init: of `inproj_bias` [H, JT, JT].
        inproj_weight_init: of `inproj_weight` [H / S, S, JT, JT, I / S].
        outproj_bias_init: of `outproj_bias`, shaped like `inproj_bias`.
        outproj_weight_init: of `outproj_weight`, shaped like `inproj_weight`.
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
    inproj_bias_init: Initializer = field(default_factory=Diagonal)
    inproj_weight_init: Initializer = field(default_factory=Zeros)
    outproj_bias_init: Initializer = field(default_factory=Diagonal)
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
        normalize = getattr(published, self.normalization_mode)
        match self.normalization_mode:
            case "exponential_orthogonalization":
                return normalize(matrix, factor, order)
            case "eigenvalue_restriction" | "singularvalue_restriction":
                return normalize(matrix, order)
            case "householder_orthogonalization" | "qr":
                return normalize(matrix)
