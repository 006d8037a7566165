"""Weights that solve the word problem of a group: they are written down, not learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers import GateConfig, HeadProjectionConfig, PLSTM1DConfig
from plstm_seq.layers.arguments import require_choice
from plstm_seq.layers.initializers import Ones, ScaledIdentity, Zeros
from plstm_seq.layers.transition import Bounded, Orthogonal, TransitionConfig
from plstm_seq.models import PostUpConfig, SequenceModel, SequenceModelConfig
from plstm_seq.probing.homomorphism import Composition

Family = Literal["bounded", "orthogonal"]
"""The transitions that can be written: orthogonal matrices as they are, or as exponentials."""

SURE = 10.0
"""The least difference between the logit of the right label and that of any other label."""


def exact_model(
    representation: Float[np.ndarray, "G M M"],
    symbols: Sequence[int],
    *,
    composition: Composition = "right",
    family: Family = "bounded",
    noise: float = 0.0,
    seed: int = 0,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    implementation: str | None = None,
) -> SequenceModel:
    """Write a model of one layer and one head that solves a word problem exactly.

    An embedding holds the numbers from which its symbol's transition is made. The state starts as
    the identity, is multiplied by the transitions and by nothing else, and is read as a whole. The
    logit of an element is the scalar product of the state with the element's matrix; it is largest
    for the state's own element because all matrices are orthogonal. The feed-forward part and the
    source exist, with weights of zero, so that training can go on from here.

    Args:
        representation: a faithful orthogonal representation, [G, m, m]: the matrix of each
            element, as returned by `faithful_representation`, `permutation_matrices` or
            `orthogonal_form`. JT is its dimension m.
        symbols: the element of each symbol.
        composition: the side on which the task multiplies its newest symbol.
        family: "bounded" stores the matrices. "orthogonal" stores their logarithms; its transitions
            are orthogonal to rounding error even where the stored numbers are rounded or disturbed.
        noise: the standard deviation of the noise that is added to the stored numbers. With it the
            model is near a representation, as training finds such models.
        seed: the seed of the noise.
        dtype: see `SequenceModel`.
        param_dtype: see `SequenceModel`.
        implementation: see `plstm_seq.ops.plstm_1d`.

    Returns:
        A model of `len(symbols)` tokens and G labels, in the order of the elements.

    Raises:
        ValueError: the matrices are not orthogonal or not all different, or a name is unknown.

    Example:
        A model that adds up the symbols 0, 1 and 2 modulo 3.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> jax.jit(model)(jnp.array([[1, 2, 2, 0]])).argmax(-1).tolist()
        [[1, 0, 2, 2]]
    """
    action = _action(representation, composition)
    size = action.shape[-1]
    require_choice("family", family, Family)
    transition = _transition(size, family)
    numbers = _numbers(action[list(symbols)], family)
    random = np.random.default_rng(seed)
    numbers = numbers + noise * random.standard_normal(numbers.shape)
    inputs, read = numbers.shape[1], size * size
    model = SequenceModel(
        len(symbols),
        _config(inputs + read, transition, implementation),
        output_size=len(action),
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=nnx.Rngs(0),
    )
    layer: Any = model.blocks[0].mixer
    write(model.token_embedding.embedding, np.pad(numbers, ((0, 0), (0, read))))
    start = 0
    for name, quantity in transition.quantities().items():
        weight = getattr(layer.transition, f"{name}_weight")
        entries = int(np.prod(quantity.shape, dtype=int))
        places = np.eye(entries, inputs + read, start)
        write(weight, places.reshape(weight.shape))
        start += entries
    write(layer.initial_state, np.eye(size)[None, None])
    write(layer.outprojection.kernel, np.eye(read, inputs + read, inputs))
    # The output [DV, JO] is the transpose of the state's matrix.
    flat = np.swapaxes(action, -1, -2).reshape(len(action), -1)
    gaps = size - flat[1:] @ flat[0]
    scale = SURE / gaps.min() if len(gaps) else 1.0
    write(model.lm_head, np.pad(scale * flat.T, ((inputs, 0), (0, 0))))
    return model


def _action(representation: np.ndarray, composition: Composition) -> np.ndarray:
    """Return the state's matrix at each label."""
    matrices = np.asarray(representation, np.float64)
    require_choice("composition", composition, Composition)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ValueError(f"representation: got shape {matrices.shape}, expected [G, m, m]")
    size = matrices.shape[-1]
    grams = np.swapaxes(matrices, -1, -2) @ matrices
    if np.abs(grams - np.eye(size)).max() > 1e-6:
        raise ValueError(
            "representation: got one that is not orthogonal, expected orthogonal matrices; "
            "orthogonal_form changes the basis"
        )
    flat = matrices.reshape(len(matrices), -1)
    if np.triu(flat @ flat.T, 1).max(initial=0) > size - 1e-6:
        raise ValueError(
            "representation: got two elements with one matrix, expected a faithful one"
        )
    # The newest matrix stands on the left; where labels grow to the right, transposes do that.
    return np.swapaxes(matrices, -1, -2) if composition == "right" else matrices


def _transition(size: int, family: Family) -> TransitionConfig:
    zeros = Zeros()
    if family == "bounded":
        return Bounded(dim=size, matrix_bias_init=zeros, matrix_weight_init=zeros)
    return Orthogonal(
        dim=size,
        determinant="straight_through",
        generator_bias_init=zeros,
        generator_weight_init=zeros,
        determinant_bias_init=zeros,
        determinant_weight_init=zeros,
    )


def _numbers(matrices: np.ndarray, family: Family) -> np.ndarray:
    """Return the numbers that make each matrix, [S, numbers], in the order of the quantities."""
    size = matrices.shape[-1]
    if family == "bounded":
        return matrices.reshape(len(matrices), -1)
    signs = np.where(np.linalg.det(matrices) < 0, -1.0, 1.0)
    rotations = matrices.copy()
    rotations[:, :, 0] *= signs[:, None]
    above = np.triu_indices(size, 1)
    angles = np.array([rotation_logarithm(rotation)[above] for rotation in rotations])
    return np.concatenate([angles.reshape(len(matrices), -1), signs[:, None]], axis=1)


def rotation_logarithm(rotation: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "M M"]:
    """Return a skew matrix whose exponential is a given rotation, with angles up to pi.

    Args:
        rotation: an orthogonal matrix of determinant 1.
    """
    blocks, basis = scipy.linalg.schur(rotation, output="real")[:2]
    skew = np.zeros_like(blocks)
    turned, place = [], 0
    while place < len(blocks):
        if place + 1 < len(blocks) and abs(blocks[place + 1, place]) > 1e-8:
            angle = np.arctan2(blocks[place + 1, place], blocks[place, place])
            skew[place + 1, place], skew[place, place + 1] = angle, -angle
            place += 2
            continue
        if blocks[place, place] < 0:
            turned.append(place)
        place += 1
    # Eigenvalues of -1 come in pairs: each pair is half a turn in a plane.
    for first, second in zip(turned[::2], turned[1::2], strict=True):
        skew[second, first], skew[first, second] = np.pi, -np.pi
    return basis @ skew @ basis.T


def bare_config(width: int, *, num_blocks: int = 1, **fields: Any) -> SequenceModelConfig:
    """Return the config of a model to write weights into: one head, no norm, most weights zero.

    Source and mark are linear functions of the input. Query and key are 1, and the value's
    dimension JV is 1.

    Args:
        width: the number of features between blocks.
        num_blocks: the number of blocks.
        **fields: fields of its `PLSTM1DConfig`, which replace the ones given here.
    """
    zeros = Zeros()
    linear = GateConfig(weight=True, activation="identity", bias_init=zeros, weight_init=zeros)
    one = HeadProjectionConfig(bias_init=Ones(), weight_init=zeros)
    bare = {
        "num_heads": 1,
        "DK": 1,
        "JV": 1,
        "source": linear,
        "mark": linear,
        "direct": None,
        "query": one,
        "key": one,
        "sub_heads": 1,
        "convolution": None,
        "norm": None,
        "passthrough": False,
        "outprojection_weight_init": zeros,
        "mark_reads": "after",
        "learned_initial_state": True,
        "initial_state_init": zeros,
    }
    return SequenceModelConfig(
        width=width,
        num_blocks=num_blocks,
        block=PostUpConfig(norm=None, downproj_weight_init=zeros),
        mixer=PLSTM1DConfig(**{**bare, **fields}),
        logit_soft_cap=None,
        post_blocks_norm=None,
        embed_init=zeros,
        head_init=zeros,
    )


def _config(
    width: int, transition: TransitionConfig, implementation: str | None
) -> SequenceModelConfig:
    zeros = Zeros()
    identity = ScaledIdentity(1.0, in_axes=-1, out_axes=-3)
    return bare_config(
        width,
        DV=transition.dim,
        transition=transition,
        mark=GateConfig(weight=True, activation="identity", bias_init=identity, weight_init=zeros),
        value=HeadProjectionConfig(bias_init=zeros, weight_init=zeros),
        implementation=implementation,
    )


def write(param: nnx.Variable, values: np.ndarray) -> None:
    """Set a parameter to values, in its own shape and type."""
    param[...] = jnp.asarray(values.reshape(param.shape), param.dtype)
