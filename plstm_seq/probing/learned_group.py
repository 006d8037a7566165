"""Which group a model has learned, read off its own answers; a task's labels are not used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Int

from plstm_seq.models import SequenceModel
from plstm_seq.probing.representations import MAX_ORDER

AGREEMENT = 0.99
"""The share of a model's own steps with which the group read off it has to agree."""
_BATCH = 1024


class NotAGroupError(ValueError):
    """A model's answers are not those of a group; the message says where they differ.

    Example:
        A switch, which symbol 1 turns on for good, cannot be undone.

        >>> import numpy as np
        >>> from plstm_seq.probing import NotAGroupError, exact_automaton, learned_group
        >>> switch = exact_automaton(np.array([[0, 1], [1, 1]]), np.array([0, 1]))
        >>> try:
        ...     learned_group(switch)
        ... except NotAGroupError as error:
        ...     print(str(error).partition(":")[2].strip())
        token 1 leads from label 0 and from label 1 to label 1
    """


@dataclass(frozen=True)
class LearnedGroup:
    """The group that a model's own answers make of its tokens.

    A token permutes the labels: it takes the answer before it to the answer after it. An element is
    a permutation of labels that some word of tokens makes; element 0 is the identity.

    Attributes:
        labels: [L], the ids of the labels that the model answers.
        elements: [G, L], the place in `labels` to which each element takes each place.
        product: [G, G], `product[b, a]` is the element that acts as a and then b.
        tokens: [S], the element of each token.
        start: the place in `labels` that the first token acts on.
        words: a shortest word of each element, as token ids, first token first.
        agreement: the share of the steps in random words at which the model answers as the group.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import LearnedGroup, exact_model
        >>> from plstm_seq.probing import faithful_representation, learned_group
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> found: LearnedGroup = learned_group(model, length=8, num_sequences=4)
        >>> found.order, found.answers(np.array([[1, 1, 1]])).tolist()
        (3, [[1, 2, 0]])
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
        """Return the labels after each token of some words, according to the group."""
        states = np.zeros(len(tokens), np.int64)
        found = []
        for column in np.asarray(tokens).T:
            states = self.product[self.tokens[column], states]
            found.append(self.labels[self.elements[states, self.start]])
        return np.stack(found, axis=1)


def learned_group(
    model: SequenceModel,
    *,
    length: int = 64,
    num_sequences: int = 64,
    seed: int = 0,
    max_order: int = MAX_ORDER,
) -> LearnedGroup:
    """Read off a model's answers to short words which group its tokens generate.

    The search is breadth first. For every label the first word that the model answers with this
    label is kept, and each token is tried after that word. The answers to random words then have
    to agree with the group that was found.

    Args:
        model: any model whose state has a bounded size.
        length: the length of the random words; choose one at which the model is mostly right.
        num_sequences: the number of random words.
        seed: the seed of the random words.
        max_order: the largest number of elements that the group may have.

    Raises:
        NotAGroupError: the answers are not those of a group of at most `max_order` elements.

    Example:
        A model that adds modulo 3 has learned the group of three elements.

        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation, learned_group
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> found = learned_group(model, length=8, num_sequences=4)
        >>> found.order, found.tokens.tolist(), found.agreement
        (3, [0, 1, 2], 1.0)
    """
    table, first = _walk(model)
    labels = np.array(sorted(table), np.int64)
    if len(labels) == 1:
        raise NotAGroupError(
            f"the model answers label {labels[0]} to every short word: it tracks nothing"
        )
    place = {int(label): number for number, label in enumerate(labels)}
    moves = np.array([[place[int(to)] for to in table[int(label)]] for label in labels]).T
    for token, move in enumerate(moves):
        twice = np.flatnonzero(np.bincount(move, minlength=len(labels)) > 1)
        if len(twice):
            pair = labels[np.flatnonzero(move == twice[0])[:2]]
            raise NotAGroupError(
                f"the model's own answers are not those of a group: token {token} leads from label "
                f"{pair[0]} and from label {pair[1]} to label {labels[twice[0]]}"
            )
    starts = np.argmax(moves == np.array([[place[int(to)]] for to in first]), axis=1)
    if len(set(starts.tolist())) > 1:
        token = int(np.flatnonzero(starts != starts[0])[0])
        raise NotAGroupError(
            "the model's own answers are not those of a group: its first answers to tokens 0 and "
            f"{token} do not begin at one label ({labels[starts[0]]} and {labels[starts[token]]})"
        )
    group = _generated(labels, moves, int(starts[0]), max_order)
    tokens = random_words(model.vocab_size, num_sequences, length, seed)
    given = answers_to(model, tokens)
    # Each step starts from the model's own last answer, so that one wrong answer counts once.
    known = np.full(model.output_size, -1)
    known[labels] = np.arange(len(labels))
    before = known[
        np.concatenate([np.full((len(given), 1), labels[group.start]), given[:, :-1]], 1)
    ]
    right = (before >= 0) & (labels[moves[tokens, before]] == given)
    agreement = float(right.mean())
    if agreement < AGREEMENT:
        raise NotAGroupError(
            f"the model's own answers to {num_sequences} random words of length {length} are not "
            f"those of a group: {agreement:.1%} of the steps do what they do in short words, "
            f"expected at least {AGREEMENT:.0%}"
        )
    return replace(group, agreement=agreement)


def _walk(model: SequenceModel) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Find the label after every token from every label, and from the start."""
    kept: dict[int, Any] = {}
    table: dict[int, np.ndarray] = {}
    waiting: list[int | None] = [None]
    first = np.empty(0, np.int64)
    while waiting:
        here, waiting = waiting[: at_once(model)], waiting[at_once(model) :]
        start = model.init_state(1)
        before = [row(start, 0) if label is None else kept[label] for label in here]
        logits, after = every_token(model, before)
        labels = logits.argmax(-1)
        for number, label in enumerate(here):
            if label is None:
                first = labels[number]
            else:
                table[label] = labels[number]
        for place, label in enumerate(labels.ravel().tolist()):
            if label not in kept:
                kept[label] = row(after, place)
                waiting.append(label)
    return table, first


def _generated(labels: np.ndarray, moves: np.ndarray, start: int, most: int) -> LearnedGroup:
    """Generate the group of the tokens' permutations of labels, breadth first."""
    identity = tuple(range(len(labels)))
    number = {identity: 0}
    found, parents, steps = [identity], [(0, 0)], []
    words: list[tuple[int, ...]] = [()]
    at = 0
    while at < len(found):
        here = np.array(found[at])
        reached = []
        for token, move in enumerate(moves):
            image = tuple(move[here].tolist())
            if image not in number:
                if len(found) >= most:
                    raise NotAGroupError(
                        f"the model's own answers make its tokens generate more than {most} "
                        "elements, too many to average over"
                    )
                number[image] = len(found)
                found.append(image)
                words.append((*words[at], token))
                parents.append((at, token))
            reached.append(number[image])
        steps.append(reached)
        at += 1
    step = np.array(steps)  # [G, S]: the element that an element becomes when a token follows
    product = np.empty((len(found), len(found)), np.int64)
    product[0] = np.arange(len(found))
    for element in range(1, len(found)):
        parent, token = parents[element]
        product[element] = step[product[parent], token]
    return LearnedGroup(labels, np.array(found), product, step[0], start, tuple(words), 1.0)


def at_once(model: SequenceModel) -> int:
    """Return the number of states from which one program tries every token."""
    return max(1, _BATCH // model.vocab_size)


def every_token(model: SequenceModel, states: list[Any]) -> tuple[np.ndarray, Any]:
    """Return the logits [N, S, V] after every token from each state, and the new states."""
    symbols, most = model.vocab_size, at_once(model)
    rows = np.minimum(np.arange(most), len(states) - 1).repeat(symbols)  # one size: one program
    before = jax.tree.map(lambda *leaves: np.stack(leaves)[rows], *states)
    tokens = np.tile(np.arange(symbols), most)
    logits, after = jax.device_get(_step(*nnx.split(model), tokens, before))
    logits = np.asarray(logits, np.float64).reshape(most, symbols, -1)
    return logits[: len(states)], after


def row(states: Any, number: int) -> Any:
    """Return the state with this number in a batch of states, without the batch axis."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], states)


@partial(jax.jit, static_argnums=0)
def _step(graphdef: Any, variables: Any, tokens: Array, states: Any) -> tuple[Array, Any]:
    model: SequenceModel = nnx.merge(graphdef, variables)
    return model.step(tokens, states)


def answers_to(model: SequenceModel, tokens: np.ndarray) -> np.ndarray:
    """Return the labels [B, T] that a model answers to sequences [B, T]."""
    return np.asarray(_call(*nnx.split(model), jnp.asarray(tokens)))


@partial(jax.jit, static_argnums=0)
def _call(graphdef: Any, variables: Any, tokens: Array) -> Array:
    model: Any = nnx.merge(graphdef, variables)
    return model(tokens).argmax(-1)


def random_words(vocabulary: int, count: int, length: int, seed: int) -> np.ndarray:
    """Draw sequences of tokens, each with equal probability."""
    return np.random.default_rng(seed).integers(0, vocabulary, (count, length))
