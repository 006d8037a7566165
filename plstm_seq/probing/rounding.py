"""Rounding: transitions are replaced by the nearest exact representation of the learned group.

A model tracks a group as exactly as its matrices multiply as the group's elements do: small errors
add up, and nothing pulls a state back. The group is read off the model's own answers; neither the
task's labels nor its rule are used. Then each matrix is averaged over what the others say it should
be, `T_a <- polar(mean_b T_b^-1 T_ba)`, which converges quadratically (Grove, Karcher and Ruh, 1974:
near an almost representation there is an exact one). `with_orthogonal_transitions` does less: it
takes the nearest orthogonal matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from plstm_seq.layers import PLSTM1DLayer
from plstm_seq.layers.transition import Table
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.probing.homomorphism import homomorphism
from plstm_seq.probing.learned_group import (
    LearnedGroup,
    NotAGroupError,
    answers_to,
    at_once,
    every_token,
    learned_group,
    random_words,
    row,
)

EXACT = 1e-6
"""The largest defect at which matrices count as a representation."""
FARTHEST = 0.5
"""How far matrices may move, and how far from a representation they may be on a vector.

It is a root mean square over elements, divided by the norm of the identity: a turn of 29 degrees.
"""
_PASSES = 60


class RoundingError(ValueError):
    """A model cannot be rounded; the message says why.

    Example:
        >>> from plstm_seq.probing import RoundingError, round_model
        >>> try:
        ...     round_model("runs/s3")
        ... except RoundingError as error:
        ...     print(error)
        model: got str, expected a model of sequences
    """


@dataclass(frozen=True)
class RoundedHead:
    """The effect of rounding on one head.

    Attributes:
        dim: the number of dimensions, out of all JT, on which the head is near a representation;
            0 if the head was left out.
        before: the defect of its transitions, see `Homomorphism.worst`.
        after: the defect of the rounded transitions on those dimensions.
        moved: how far the matrices moved on those dimensions: the root mean square over tokens of
            the Frobenius distance, divided by the norm of the identity.
        passes: the number of times that the matrices were averaged.
    """

    dim: int
    before: float
    after: float
    moved: float
    passes: int


@dataclass(frozen=True)
class Rounded:
    """A rounded model, and how near the original model was to it.

    Attributes:
        model: the rounded model: its transitions are a table by token, and it has no source.
        group: the group that was read off the model's answers.
        heads: the effect of rounding on each head.
        before: the share of random sequences on which the model gives all answers of the group.
        after: the same share for the rounded model.
        wrong_steps: the number of steps at which the rounded model does not answer as the group,
            among the steps from every element by every token. If there are none, the model is right
            at every length, to rounding error.
        steps: the number of all these steps.
        margin: the smallest lead of the right label's logit over all steps.
    """

    model: SequenceModel
    group: LearnedGroup
    heads: tuple[RoundedHead, ...]
    before: float
    after: float
    wrong_steps: int
    steps: int
    margin: float


def round_transitions(
    transitions: Float[np.ndarray, "S J J"], group: LearnedGroup
) -> tuple[Float[np.ndarray, "S J J"], Float[np.ndarray, "J J"], RoundedHead]:
    """Replace the transitions of one head by the nearest orthogonal representation of a group.

    A head need not represent the group on all of its dimensions: those on which no answer depends
    learn nothing. The vectors v for which `T_b T_a v` is `T_ba v` for all elements form a subspace
    that the transitions map to itself. They are rounded on it, and are the identity elsewhere.

    Args:
        transitions: a matrix for each token.
        group: the group that the tokens generate.

    Returns:
        The rounded transitions, the projection onto the subspace, which is to be applied to the
        initial state, and a report. If its `dim` is 0, the head is near no representation.

    Example:
        Turns by 120 degrees with some noise become exact turns again.

        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import RoundedHead, learned_group, round_transitions
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> noise = 0.01 * np.random.default_rng(0).standard_normal((3, 2, 2))
        >>> group = learned_group(model, length=8, num_sequences=4)
        >>> given = model.transitions_by_token()[:, 0] + noise
        >>> head: RoundedHead = round_transitions(given, group)[2]
        >>> head.dim, bool(head.before > 0.01), bool(head.after < 1e-6)
        (2, True, True)
    """
    given = np.asarray(transitions, np.float64)
    before = _defect(given, group)
    basis = _represented(polar(given), group)
    rounded, after, passes = _averaged(basis.T @ given @ basis, group)
    away = np.square(rounded - basis.T @ given @ basis).sum()
    moved = float(np.sqrt(away / (len(given) * max(1, basis.shape[1]))))
    if after > EXACT or moved > FARTHEST:
        basis, rounded = basis[:, :0], rounded[:, :0, :0]
    projection = basis @ basis.T
    table = np.eye(len(projection)) - projection + basis @ rounded @ basis.T
    return table, projection, RoundedHead(basis.shape[1], before, after, moved, passes)


def _defect(transitions: np.ndarray, group: LearnedGroup) -> float:
    return homomorphism(transitions, group.product, group.tokens.tolist(), "left").worst


def _represented(matrices: np.ndarray, group: LearnedGroup) -> np.ndarray:
    """Return an orthonormal basis [J, m] of the vectors on which matrices are nearly a group."""
    action = _extended(matrices, group)
    squares = np.zeros(matrices.shape[1:])
    for token, matrix in zip(group.tokens, matrices, strict=True):
        away = matrix @ action - action[group.product[token]]
        squares += np.einsum("aji,ajk->ik", away, away)
    values, vectors = np.linalg.eigh(squares / (len(matrices) * group.order))
    return vectors[:, values <= FARTHEST**2]


def _averaged(matrices: np.ndarray, group: LearnedGroup) -> tuple[np.ndarray, float, int]:
    """Average until the matrices are a representation; return its defect and the passes too."""
    action = _extended(polar(matrices), group)
    after, passes = _defect(action[group.tokens], group), 0
    while passes < _PASSES and after > 1e-14:
        total = np.zeros_like(action)
        for one, there in zip(action, group.product, strict=True):
            total += one.T @ action[there]
        action, passes = polar(total / len(action)), passes + 1
        last, after = after, _defect(action[group.tokens], group)
        if after < EXACT and after > last / 2:  # only rounding error is left
            break
    return action[group.tokens], after, passes


def _extended(matrices: np.ndarray, group: LearnedGroup) -> np.ndarray:
    """Return a matrix for each element: the mean over its tokens, or a product along its word."""
    action = np.empty((group.order, *matrices.shape[1:]))
    for element, word in enumerate(group.words):
        own = np.flatnonzero(group.tokens == element)
        if len(own):
            action[element] = polar(matrices[own].mean(0))
            continue
        action[element] = np.eye(matrices.shape[-1])
        for token in word:
            action[element] = matrices[token] @ action[element]
    return action


def polar(matrices: Float[np.ndarray, "*S J J"]) -> Float[np.ndarray, "*S J J"]:
    """Return the nearest orthogonal matrices."""
    left, _, right = np.linalg.svd(matrices)
    return left @ right


def round_model(
    model: SequenceModel, *, length: int = 64, num_sequences: int = 64, seed: int = 0
) -> Rounded:
    """Round the transitions of a model of one block whose gates depend on the token alone.

    Args:
        model: the model, which is not changed.
        length: the length of the random sequences on which the answers are compared, preferably
            that of training.
        num_sequences: the number of these sequences.
        seed: the seed of these sequences.

    Raises:
        RoundingError: the model is of another kind, its answers are not those of a group, its
            transitions are not near a representation, or it answers less well once rounded.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import Rounded, round_model
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), noise=0.01, implementation="recurrent")
        >>> found: Rounded = round_model(model, length=8, num_sequences=4)
        >>> found.group.order, found.after, found.wrong_steps, found.steps
        (3, 1.0, 0, 9)
    """
    check_model(model)
    try:
        group = learned_group(model, length=length, num_sequences=num_sequences, seed=seed)
    except NotAGroupError as error:
        raise RoundingError(str(error)) from None
    given = np.asarray(model.transitions_by_token(), np.float64)
    found = [round_transitions(given[:, head], group) for head in range(given.shape[1])]
    heads = tuple(head for _, _, head in found)
    if not any(head.dim for head in heads):
        raise RoundingError(
            f"no head is near a representation of the group of {group.order} elements that the "
            "model's answers make; its heads: "
            + "; ".join(_described(number, head) for number, head in enumerate(heads))
        )
    table = np.stack([matrices for matrices, _, _ in found], axis=1)
    rounded = _with_table(model, table, np.stack([projection for _, projection, _ in found]))
    tokens = random_words(model.vocab_size, num_sequences, length, seed + 1)
    wanted = group.answers(tokens)
    before, after = ((answers_to(one, tokens) == wanted).all(1).mean() for one in (model, rounded))
    if after < before:
        raise RoundingError(
            f"rounded, the model gives all answers of {after:.1%} of {num_sequences} random "
            f"sequences of length {length}, as it is of {before:.1%}; its heads: "
            + "; ".join(_described(number, head) for number, head in enumerate(heads))
        )
    wrong, margin = _all_steps(rounded, group)
    return Rounded(
        rounded,
        group,
        heads,
        float(before),
        float(after),
        wrong,
        group.order * len(group.tokens),
        margin,
    )


def _described(number: int, head: RoundedHead) -> str:
    return f"{number}: defect {head.before:.2g}, on {head.dim} dimensions near a representation"


def check_model(model: Any) -> None:
    """Raise RoundingError for a model that cannot be rounded because of its kind or config."""
    if not isinstance(model, SequenceModel):
        raise RoundingError(f"model: got {type(model).__name__}, expected a model of sequences")
    try:
        model.config.check_transitions_by_token()
    except ValueError as error:
        raise RoundingError(str(error)) from None
    config: Any = model.config.mixer
    if config.convolution is not None:
        raise RoundingError(
            "mixer.convolution: got one, expected None: with it, gates depend on more than the "
            "token"
        )
    if not config.learned_initial_state:
        raise RoundingError(
            "mixer.learned_initial_state: got False, expected True: without a source, a state that "
            "starts at zero stays there"
        )


def rounded_config(model: SequenceModel) -> SequenceModelConfig:
    """Return the config of the model that `round_model` makes: a table by token and no source."""
    layer: Any = model.blocks[0].mixer
    table = Table(dim=layer.sizes.JT, tokens=model.vocab_size)
    # Without a source, the default of DV is not the one that the model was built with.
    mixer = replace(layer.config, source=None, transition=table, DV=layer.sizes.DV)
    return replace(model.config, mixer=mixer)


def _with_table(model: SequenceModel, table: np.ndarray, projections: np.ndarray) -> SequenceModel:
    """Return the model with transitions [S, H, J, J], no source, a projected initial state."""
    layer: Any = model.blocks[0].mixer
    rounded = SequenceModel(
        model.vocab_size,
        rounded_config(model),
        output_size=model.output_size,
        dtype=model.dtype,
        param_dtype=layer.param_dtype,
        rngs=nnx.Rngs(0),
    )
    known = dict(nnx.to_flat_state(nnx.state(model)))
    made = {
        path: leaf if "transition" in path else known[path]
        for path, leaf in nnx.to_flat_state(nnx.state(rounded))
    }
    nnx.update(rounded, nnx.from_flat_state(made))
    there: Any = rounded.blocks[0].mixer
    there.transition.embedding[...] = jnp.asarray(table, layer.param_dtype)
    start = np.einsum(
        "hij,hkvj->hkvi", projections, np.asarray(layer.initial_state[...], np.float64)
    )
    there.initial_state[...] = jnp.asarray(start, layer.param_dtype)
    return rounded


def _all_steps(model: SequenceModel, group: LearnedGroup) -> tuple[int, float]:
    """Count the wrong answers after all elements and tokens; return the smallest lead too."""
    states: dict[int, Any] = {0: row(model.init_state(1), 0)}
    waiting = [0]
    wrong, margin = 0, np.inf
    while waiting:
        here, waiting = waiting[: at_once(model)], waiting[at_once(model) :]
        logits, after = every_token(model, [states[element] for element in here])
        elements = group.product[group.tokens[None], np.array(here)[:, None]]
        right = group.labels[group.elements[elements, group.start]]
        others = logits.copy()
        np.put_along_axis(others, right[..., None], -np.inf, axis=-1)
        lead = np.take_along_axis(logits, right[..., None], axis=-1)[..., 0] - others.max(-1)
        wrong += int((lead <= 0).sum())
        margin = min(margin, float(lead.min()))
        for place, element in enumerate(elements.ravel().tolist()):
            if element not in states:
                states[element] = row(after, place)
                waiting.append(element)
    return wrong, margin


class Polar(nnx.Module):
    """A transition, projected onto the orthogonal matrices: `U V^T` of its decomposition `U S V^T`.

    A transition that forgets on purpose no longer does, so use this only for models that track.

    Args:
        transition: a module that maps [..., I] to [..., H, JT, JT].
    """

    def __init__(self, transition: nnx.Module):
        self.transition = transition

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S H JT JT"]:
        """Return the orthogonal matrices that are nearest in any unitarily invariant norm."""
        transition: Any = self.transition
        left, _, right = jnp.linalg.svd(transition(x), full_matrices=False)
        return left @ right


def with_orthogonal_transitions(model: SequenceModel) -> SequenceModel:
    """Return a copy of a model whose pLSTM layers have orthogonal transitions.

    Args:
        model: any sequence model; it is not changed.

    Raises:
        ValueError: no block of the model has a pLSTM layer.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import spectrum, with_orthogonal_transitions
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), noise=0.01, implementation="recurrent")
        >>> fixed = with_orthogonal_transitions(model)
        >>> def distance(model):
        ...     return spectrum(model.transitions_by_token()).distance.max()
        >>> bool(distance(model) > 1e-3), bool(distance(fixed) < 1e-5)
        (True, True)
    """
    copy = nnx.clone(model)
    layers = [block.mixer for block in copy.blocks if isinstance(block.mixer, PLSTM1DLayer)]
    if not layers:
        raise ValueError("model: got one without a pLSTM layer, expected transitions to change")
    for layer in layers:
        projected: Any = Polar(layer.transition)
        layer.transition = projected
    return copy
