"""Rounding: transitions replaced by the nearest exact representation of what a model has learned.

A model that tracks a group holds exactly as far as its matrices multiply as the group's elements
do: small errors add up, and nothing pulls a state back. Which elements those are is read off the
model's own answers; neither the task's labels nor its rule go in. Then each matrix is averaged over
what the others say it should be, `T_a <- polar(mean_b T_b^-1 T_ba)`, which converges quadratically
(Grove, Karcher and Ruh, 1974: near an almost representation there is an exact one).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from plstm_seq.layers import GateConfig, PLSTM1DConfig, PLSTM1DLayer
from plstm_seq.layers.initializers import Zeros
from plstm_seq.layers.transition import Table
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.probing.homomorphism import homomorphism
from plstm_seq.probing.recording import record
from plstm_seq.probing.representations import MAX_ORDER

EXACT = 1e-6
"""The largest defect of what counts as a representation."""
FARTHEST = 0.5
"""How far matrices may move, and how far from a representation they may be on a vector.

Root mean square over elements, over the norm of the identity: a turn of 29 degrees.
"""
AGREEMENT = 0.99
"""The share of a model's own steps that the group read off it has to explain."""
_PASSES = 60
_BATCH = 1024


class RoundingError(ValueError):
    """A model cannot be rounded; the message says why."""


@dataclass(frozen=True)
class LearnedGroup:
    """The group that a model's own answers make of its tokens.

    A token permutes the labels: it takes the answer before it to the answer after it. An element is
    a permutation of labels that some word of tokens makes; element 0 is the identity.

    Attributes:
        labels: [L], the ids of the labels that the model answers.
        elements: [G, L], the place in `labels` to which each element takes each place.
        product: [G, G], `product[b, a]` is the element b after a.
        tokens: [S], the element of each token.
        start: the place in `labels` that the first token acts on.
        words: a shortest word of each element, as token ids, first token first.
        agreement: the share of the steps of random words on which the model answers so.
    """

    labels: Int[np.ndarray, " L"]
    elements: Int[np.ndarray, "G L"]
    product: Int[np.ndarray, "G G"]
    tokens: Int[np.ndarray, " S"]
    start: int
    words: tuple[tuple[int, ...], ...]
    agreement: float

    @property
    def order(self) -> int:
        """The number of elements."""
        return len(self.elements)

    def answers(self, tokens: Int[np.ndarray, "B T"]) -> Int[np.ndarray, "B T"]:
        """The labels after each token of some words, as the group has them."""
        states = np.zeros(len(tokens), np.int64)
        found = []
        for column in np.asarray(tokens).T:
            states = self.product[self.tokens[column], states]
            found.append(self.labels[self.elements[states, self.start]])
        return np.stack(found, axis=1)


@dataclass(frozen=True)
class RoundedHead:
    """What rounding did to one head.

    Attributes:
        dim: of its JT dimensions, on how many it is near a representation; 0: it was left out.
        before: the defect of its transitions, see `Homomorphism.worst`.
        after: the defect of the rounded ones, on those dimensions.
        moved: how far the matrices moved on them: root mean square over tokens of the Frobenius
            distance over the norm of the identity.
        passes: how many averages were taken.
    """

    dim: int
    before: float
    after: float
    moved: float
    passes: int


@dataclass(frozen=True)
class Rounded:
    """A rounded model, and how near the model was to it.

    Attributes:
        model: the transitions are a table by token, and the source is closed.
        group: what was read off the model's answers.
        heads: of each head.
        before: the share of random sequences on which the model gives all answers of the group.
        after: the same of the rounded model.
        wrong_steps: how many steps, of all from any element by any token, the rounded model answers
            otherwise than the group; with none it is right at every length, to rounding error.
        steps: how many steps there are.
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

    A head need not represent the group on all of its dimensions: what no answer depends on learns
    nothing. The vectors v for which `T_b T_a v` is `T_ba v` for all elements are a subspace that
    the transitions map to itself; on that they are rounded, and elsewhere they become the identity.

    Args:
        transitions: one a token.
        group: what the tokens are.

    Returns:
        The rounded transitions, the projection onto the subspace, to apply to the state to begin
        with, and what it took. With `dim` 0 the head is near no representation: left out.
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
    """An orthonormal basis [J, m] of the vectors on which matrices are nearly a group."""
    action = _extended(matrices, group)
    squares = np.zeros(matrices.shape[1:])
    for token, matrix in zip(group.tokens, matrices, strict=True):
        away = matrix @ action - action[group.product[token]]
        squares += np.einsum("aji,ajk->ik", away, away)
    values, vectors = np.linalg.eigh(squares / (len(matrices) * group.order))
    return vectors[:, values <= FARTHEST**2]


def _averaged(matrices: np.ndarray, group: LearnedGroup) -> tuple[np.ndarray, float, int]:
    """The representation that averages lead to, its defect, and how many they were."""
    action = _extended(polar(matrices), group)
    after, passes = _defect(action[group.tokens], group), 0
    while passes < _PASSES and after > 1e-14:
        total = np.zeros_like(action)
        for one, there in zip(action, group.product, strict=True):
            total += one.T @ action[there]
        action, passes = polar(total / len(action)), passes + 1
        last, after = after, _defect(action[group.tokens], group)
        if after < EXACT and after > last / 2:  # what is left is rounding error
            break
    return action[group.tokens], after, passes


def _extended(matrices: np.ndarray, group: LearnedGroup) -> np.ndarray:
    """A matrix of each element: the mean of its tokens', or a product along its word."""
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


def learned_group(
    model: SequenceModel,
    *,
    length: int = 64,
    num_sequences: int = 64,
    seed: int = 0,
    max_order: int = MAX_ORDER,
) -> LearnedGroup:
    """Read off a model's answers to short words which group its tokens generate.

    Breadth first: of every label the first word that the model answers with it is kept, and what
    every token makes of it is asked. Random words then have to agree with that.

    Args:
        model: any with a state of bounded size.
        length: of the random words; one on which the model is mostly right.
        num_sequences: how many random words.
        seed: of the random words.
        max_order: the most elements.

    Raises:
        RoundingError: the answers are not those of a group of at most so many elements.
    """
    table, first = _walk(model)
    labels = np.array(sorted(table), np.int64)
    place = {int(label): number for number, label in enumerate(labels)}
    moves = np.array([[place[int(to)] for to in table[int(label)]] for label in labels]).T
    for token, move in enumerate(moves):
        twice = np.flatnonzero(np.bincount(move, minlength=len(labels)) > 1)
        if len(twice):
            pair = labels[np.flatnonzero(move == twice[0])[:2]]
            raise RoundingError(
                f"the model's own answers are not those of a group: token {token} leads from label "
                f"{pair[0]} and from label {pair[1]} to label {labels[twice[0]]}"
            )
    starts = np.argmax(moves == np.array([[place[int(to)]] for to in first]), axis=1)
    if len(set(starts.tolist())) > 1:
        token = int(np.flatnonzero(starts != starts[0])[0])
        raise RoundingError(
            "the model's own answers are not those of a group: its first answers to tokens 0 and "
            f"{token} do not begin at one label ({labels[starts[0]]} and {labels[starts[token]]})"
        )
    group = _generated(labels, moves, int(starts[0]), max_order)
    tokens = _random_words(model.vocab_size, num_sequences, length, seed)
    given = _answers(model, tokens)
    # Step by step, so that one wrong answer is one disagreement.
    known = np.full(model.output_size, -1)
    known[labels] = np.arange(len(labels))
    before = known[
        np.concatenate([np.full((len(given), 1), labels[group.start]), given[:, :-1]], 1)
    ]
    right = (before >= 0) & (labels[moves[tokens, before]] == given)
    agreement = float(right.mean())
    if agreement < AGREEMENT:
        raise RoundingError(
            f"the model's own answers to {num_sequences} random words of length {length} are not "
            f"those of a group: {agreement:.1%} of the steps do what they do in short words, "
            f"expected at least {AGREEMENT:.0%}"
        )
    return replace(group, agreement=agreement)


def _walk(model: SequenceModel) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """What every token makes of every label, and of the start: labels by token."""
    kept: dict[int, Any] = {}
    table: dict[int, np.ndarray] = {}
    waiting: list[int | None] = [None]
    first = np.empty(0, np.int64)
    while waiting:
        here, waiting = waiting[: _at_once(model)], waiting[_at_once(model) :]
        start = model.init_state(1)
        before = [_row(start, 0) if label is None else kept[label] for label in here]
        logits, after = _every_token(model, before)
        labels = logits.argmax(-1)
        for number, label in enumerate(here):
            if label is None:
                first = labels[number]
            else:
                table[label] = labels[number]
        for place, label in enumerate(labels.ravel().tolist()):
            if label not in kept:
                kept[label] = _row(after, place)
                waiting.append(label)
    return table, first


def _generated(labels: np.ndarray, moves: np.ndarray, start: int, most: int) -> LearnedGroup:
    """The group that permutations of labels generate, breadth first."""
    identity = tuple(range(len(labels)))
    number = {identity: 0}
    found, parents, steps = [identity], [(0, 0)], []
    words: list[tuple[int, ...]] = [()]
    at = 0
    while at < len(found):
        here = np.array(found[at])
        row = []
        for token, move in enumerate(moves):
            image = tuple(move[here].tolist())
            if image not in number:
                if len(found) >= most:
                    raise RoundingError(
                        f"the model's own answers make its tokens generate more than {most} "
                        "elements, too many to average over"
                    )
                number[image] = len(found)
                found.append(image)
                words.append((*words[at], token))
                parents.append((at, token))
            row.append(number[image])
        steps.append(row)
        at += 1
    step = np.array(steps)  # [G, S]: the element after an element once a token follows
    product = np.empty((len(found), len(found)), np.int64)
    product[0] = np.arange(len(found))
    for element in range(1, len(found)):
        parent, token = parents[element]
        product[element] = step[product[parent], token]
    return LearnedGroup(labels, np.array(found), product, step[0], start, tuple(words), 1.0)


def round_model(
    model: SequenceModel, *, length: int = 64, num_sequences: int = 64, seed: int = 0
) -> Rounded:
    """Round the transitions of a model of one block whose gates depend on the token alone.

    Args:
        model: is not changed.
        length: of the random sequences on which the answers are compared; that of training.
        num_sequences: how many.
        seed: of these sequences.

    Raises:
        RoundingError: the model is of another kind, its answers are not those of a group, or its
            transitions are not near a representation, or it answers less well once rounded.
    """
    check_model(model)
    group = learned_group(model, length=length, num_sequences=num_sequences, seed=seed)
    symbols = jnp.arange(model.vocab_size)[:, None]
    given = np.asarray(record(model, symbols).layers[0].transition[:, 0], np.float64)
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
    tokens = _random_words(model.vocab_size, num_sequences, length, seed + 1)
    wanted = group.answers(tokens)
    before, after = ((_answers(one, tokens) == wanted).all(1).mean() for one in (model, rounded))
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
    """Refuse a model that cannot be rounded because of what it is made of.

    Raises:
        RoundingError: it is one.
    """
    if not isinstance(model, SequenceModel):
        raise RoundingError(f"model: got {type(model).__name__}, expected a model of sequences")
    if len(model.blocks) > 1:
        raise RoundingError(
            f"model: got {len(model.blocks)} blocks, expected 1: what a later block reads depends "
            "on the state of those before, so that its transitions are no table by token"
        )
    layer = model.blocks[0].mixer
    if not isinstance(layer, PLSTM1DLayer):
        raise RoundingError(f"mixer: got {type(layer).__name__}, expected a pLSTM layer")
    config = layer.config
    if config.convolution is not None:
        raise RoundingError(
            "mixer.convolution: got one, expected None: with it, gates depend on more than the "
            "token"
        )
    if not config.learned_initial_state:
        raise RoundingError(
            "mixer.learned_initial_state: got False, expected True: with the source closed, a "
            "state that starts at zero stays there"
        )


def closed_source(config: PLSTM1DConfig) -> PLSTM1DConfig:
    """The same layer with a source that is exactly zero: nothing is written after the start."""
    closed = GateConfig(weight=False, activation="identity", bias_init=Zeros())
    return replace(config, source=closed)


def rounded_config(config: SequenceModelConfig, vocab_size: int) -> SequenceModelConfig:
    """The config of what `round_model` makes of a model."""
    mixer: Any = config.mixer
    table = Table(dim=mixer.transition.dim, tokens=vocab_size)
    return replace(config, mixer=replace(closed_source(mixer), transition=table))


def _with_table(model: SequenceModel, table: np.ndarray, projections: np.ndarray) -> SequenceModel:
    """The model with transitions [S, H, J, J], a closed source, and a projected initial state."""
    layer: Any = model.blocks[0].mixer
    rounded = SequenceModel(
        model.vocab_size,
        rounded_config(model.config, model.vocab_size),
        output_size=model.output_size,
        dtype=model.dtype,
        param_dtype=layer.param_dtype,
        rngs=nnx.Rngs(0),
    )
    known = dict(nnx.to_flat_state(nnx.state(model)))
    made = {
        path: leaf if {"source", "transition"} & {*path} else known[path]
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
    """Wrong answers among the steps from every element by every token, and the smallest lead."""
    states: dict[int, Any] = {0: _row(model.init_state(1), 0)}
    waiting = [0]
    wrong, margin = 0, np.inf
    while waiting:
        here, waiting = waiting[: _at_once(model)], waiting[_at_once(model) :]
        logits, after = _every_token(model, [states[element] for element in here])
        elements = group.product[group.tokens[None], np.array(here)[:, None]]
        right = group.labels[group.elements[elements, group.start]]
        others = logits.copy()
        np.put_along_axis(others, right[..., None], -np.inf, axis=-1)
        lead = np.take_along_axis(logits, right[..., None], axis=-1)[..., 0] - others.max(-1)
        wrong += int((lead <= 0).sum())
        margin = min(margin, float(lead.min()))
        for place, element in enumerate(elements.ravel().tolist()):
            if element not in states:
                states[element] = _row(after, place)
                waiting.append(element)
    return wrong, margin


def _at_once(model: SequenceModel) -> int:
    """From how many states every token is tried in one program."""
    return max(1, _BATCH // model.vocab_size)


def _every_token(model: SequenceModel, states: list[Any]) -> tuple[np.ndarray, Any]:
    """The logits [N, S, V] after every token from each state, and the states [N S, ...] then."""
    symbols, most = model.vocab_size, _at_once(model)
    rows = np.minimum(np.arange(most), len(states) - 1).repeat(symbols)  # one size, one program
    before = jax.tree.map(lambda *leaves: np.stack(leaves)[rows], *states)
    tokens = np.tile(np.arange(symbols), most)
    logits, after = jax.device_get(_step(*nnx.split(model), tokens, before))
    logits = np.asarray(logits, np.float64).reshape(most, symbols, -1)
    return logits[: len(states)], after


def _row(states: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], states)


@partial(jax.jit, static_argnums=0)
def _step(graphdef: Any, variables: Any, tokens: Array, states: Any) -> tuple[Array, Any]:
    model: SequenceModel = nnx.merge(graphdef, variables)
    return model.step(tokens, states)


def _answers(model: SequenceModel, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(_call(*nnx.split(model), jnp.asarray(tokens)))


@partial(jax.jit, static_argnums=0)
def _call(graphdef: Any, variables: Any, tokens: Array) -> Array:
    model: Any = nnx.merge(graphdef, variables)
    return model(tokens).argmax(-1)


def _random_words(vocabulary: int, count: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocabulary, (count, length))
