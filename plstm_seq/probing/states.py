"""Probes of a model's state at each length: a linear map to labels, and the distance of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from plstm_seq.evaluation import Stream, horizon
from plstm_seq.evaluation.snapping import tracks
from plstm_seq.evaluation.sources import EvaluatedModel
from plstm_seq.layers.arguments import require


@dataclass(frozen=True)
class StateSample:
    """The states of a model after labelled sequences of several lengths.

    Attributes:
        lengths: the R lengths, ascending.
        states: [R, N, F], the features of the whole state, from all layers and heads.
        labels: [R, N], the task's label at each length.
        predictions: [R, N], the label that the model predicts at each length.

    Example:
        >>> import numpy as np
        >>> from plstm_seq.probing import StateSample
        >>> labels = np.array([[0, 1], [1, 0]])
        >>> predictions = np.array([[0, 1], [1, 1]])
        >>> sample = StateSample((4, 8), np.eye(2)[labels], labels, predictions)
        >>> sample.accuracy.tolist()
        [1.0, 0.5]
    """

    lengths: tuple[int, ...]
    states: Float[np.ndarray, "R N F"]
    labels: Int[np.ndarray, "R N"]
    predictions: Int[np.ndarray, "R N"]

    @property
    def accuracy(self) -> Float[np.ndarray, " R"]:
        """The share of sequences that the model answers rightly, at each length."""
        return (self.labels == self.predictions).mean(1)


def sample_states(
    model: nnx.Module,
    stream: Stream,
    lengths: Sequence[int],
    *,
    key: Array,
    num_sequences: int = 512,
) -> StateSample:
    """Run a model over a stream, and keep its state at some lengths.

    Args:
        model: a model whose state is bounded, as `length_generalization` takes it.
        stream: the task.
        lengths: multiples of the stream's period. The model runs in pieces whose length is the
            greatest common divisor of these, at most 256.
        key: typed key to draw the sequences.
        num_sequences: the number of sequences N; they run at once.

    Raises:
        ValueError: a length is not such a multiple, or the model's state is not bounded.

    Example:
        The states of a model that adds modulo 3, after 2 and after 4 symbols.

        >>> import jax
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.evaluation import Stream
        >>> from plstm_seq.probing import StateSample, sample_states
        >>> from tasks import WordProblem
        >>> task = WordProblem("Z3")
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> stream = Stream(task.draw, task.start, task.advance)
        >>> options = {"key": jax.random.key(0), "num_sequences": 8}
        >>> sample: StateSample = sample_states(model, stream, [2, 4], **options)
        >>> sample.states.shape, sample.accuracy.tolist()
        ((2, 8, 4), [1.0, 1.0])
    """
    wanted = tuple(sorted({int(length) for length in lengths}))
    fits = bool(wanted) and all(length >= 1 and length % stream.period == 0 for length in wanted)
    require(fits, "lengths", wanted, f"multiples of {stream.period}, above 0")
    evaluated: EvaluatedModel = model  # pyright: ignore[reportAssignmentType]
    if not evaluated.bounded_state:
        raise ValueError("model: got one whose state grows, expected a state of bounded size")
    size = math.gcd(*wanted)
    while size > 256 and size % 2 == 0 and (size // 2) % stream.period == 0:
        size //= 2
    graphdef, variables = nnx.split(model)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, leaf.dtype), evaluated.init_state(num_sequences)
    )
    position = stream.start(num_sequences)
    kept: dict[int, tuple[Array, ...]] = {}
    for number in range(wanted[-1] // size):
        inputs_key = jax.random.fold_in(key, number)
        label, position, prediction, state = _advance(
            graphdef, variables, stream, num_sequences, size, inputs_key, position, state
        )
        if (number + 1) * size in wanted:
            kept[(number + 1) * size] = (label, prediction, _features(state))
    labels, predictions, states = (
        np.stack([np.asarray(kept[length][part]) for length in wanted]) for part in range(3)
    )
    return StateSample(wanted, states, labels, predictions)


@partial(jax.jit, static_argnames=("graphdef", "stream", "batch", "size"))
def _advance(
    graphdef: nnx.GraphDef[Any],
    variables: Any,
    stream: Stream,
    batch: int,
    size: int,
    key: Array,
    position: Any,
    state: Any,
) -> tuple[Array, Any, Array, Any]:
    model: Any = nnx.merge(graphdef, variables)
    inputs = stream.draw(key, batch, size)
    labels, position = stream.advance(inputs, position)
    logits, state = model(inputs, initial_state=state, return_state=True)
    return labels[:, -1], position, logits[:, -1].argmax(-1), state


@jax.jit
def _features(state: Any) -> Array:
    leaves = [
        leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if tracks(path, leaf)
    ]
    return jnp.concatenate(leaves, axis=1)


@dataclass(frozen=True)
class LinearProbe:
    """A linear map from states to labels, fitted at short lengths and tested at every length.

    Attributes:
        lengths: the R lengths.
        fitted: the lengths at which the map was fitted.
        accuracy: [R], the accuracy of the map on sequences that it was not fitted on.
        model_accuracy: [R], the accuracy of the model itself on those sequences.
        most_frequent: [R], the share of the most frequent label: the accuracy that a map reaches
            which ignores the state.
        weights: the map's weights, [F, V].
        bias: the map's bias, [V].
    """

    lengths: tuple[int, ...]
    fitted: tuple[int, ...]
    accuracy: Float[np.ndarray, " R"]
    model_accuracy: Float[np.ndarray, " R"]
    most_frequent: Float[np.ndarray, " R"]
    weights: Float[np.ndarray, "F V"]
    bias: Float[np.ndarray, " V"]


def linear_probe(
    sample: StateSample, *, num_labels: int, fit_until: int, ridge: float = 1e-3
) -> LinearProbe:
    """Fit a linear map from states to labels, and test it at longer lengths.

    The map is a ridge regression onto one-hot labels. It is fitted on half of the sequences, at
    lengths up to `fit_until`, and tested on the other half. Where it is right at a longer length,
    the state still holds the label; where the model itself is then wrong, its readout is at fault.

    Args:
        sample: states of some hundred sequences at least.
        num_labels: the number of labels, V.
        fit_until: the longest length to fit at, for instance the longest one in training.
        ridge: the penalty, relative to the mean variance of a feature.

    Raises:
        ValueError: the sample has no length up to `fit_until`.

    Example:
        States from which the label can be read, where the model itself always answers 0.

        >>> import numpy as np
        >>> from plstm_seq.probing import LinearProbe, StateSample, linear_probe
        >>> labels = np.tile([0, 1], (2, 20))
        >>> sample = StateSample((4, 8), np.eye(2)[labels], labels, predictions=0 * labels)
        >>> found: LinearProbe = linear_probe(sample, num_labels=2, fit_until=4)
        >>> found.fitted, found.accuracy.tolist(), found.model_accuracy.tolist()
        ((4,), [1.0, 1.0], [0.5, 0.5])
    """
    chosen = _until(sample, fit_until)
    half = sample.states.shape[1] // 2
    fitted = sample.states[chosen, :half].reshape(-1, sample.states.shape[-1]).astype(np.float64)
    middle = fitted.mean(0)
    centred = fitted - middle
    targets = np.eye(num_labels)[sample.labels[chosen, :half].ravel()]
    share = targets.mean(0)
    gram = centred.T @ centred / len(centred)
    penalty = ridge * max(float(np.trace(gram)) / len(gram), np.finfo(float).tiny)
    weights = np.linalg.solve(
        gram + penalty * np.eye(len(gram)), centred.T @ (targets - share) / len(centred)
    )
    bias = share - middle @ weights
    read = (sample.states[:, half:] @ weights + bias).argmax(-1)
    labels = sample.labels[:, half:]
    counts = np.stack([np.bincount(row, minlength=num_labels) for row in labels])
    return LinearProbe(
        lengths=sample.lengths,
        fitted=tuple(np.array(sample.lengths)[chosen].tolist()),
        accuracy=(read == labels).mean(1),
        model_accuracy=(sample.predictions[:, half:] == labels).mean(1),
        most_frequent=counts.max(1) / labels.shape[1],
        weights=weights,
        bias=bias,
    )


@dataclass(frozen=True)
class Separability:
    """How far the states of a label spread, compared with the distance to those of other labels.

    States are first scaled to length 1, because readouts normalise them or only compare scores.

    A class consists of the states of one label. Its mean is taken up to the reference length.

    Attributes:
        lengths: the R lengths.
        spread: [R], the root mean square distance of a state to the mean of its class.
        distance: the distance from a class's mean to the nearest other one, averaged over classes.
        ratio: [R], the spread divided by the distance.
        reach: [R], how far states have gone towards another class, as a share of the way between
            the two means. It is the 0.9 quantile over states of the largest share over classes. At
            one half, a tenth of the states are nearer to another class's mean than to their own.
        nearest: [R], the share of states whose nearest mean is that of their label.
        accuracy: [R], the accuracy of the model.
        reference: the longest length from which the means are computed.
        predicted: the length at which `reach` comes to one half if its square goes on growing with
            the length as it does up to the reference (a random walk); infinite if it does not grow.
        failed: the first length at which the model's accuracy is below the threshold; infinite if
            there is none.
    """

    lengths: tuple[int, ...]
    spread: Float[np.ndarray, " R"]
    distance: float
    ratio: Float[np.ndarray, " R"]
    reach: Float[np.ndarray, " R"]
    nearest: Float[np.ndarray, " R"]
    accuracy: Float[np.ndarray, " R"]
    reference: int
    predicted: float
    failed: float


TOO_CLOSE = 0.5
"""The share of the way to another class's mean at which a state is as near to it as to its own."""


def separability(sample: StateSample, *, reference: int, threshold: float = 0.9) -> Separability:
    """Predict from short sequences at which length a model fails, and find where it does fail.

    Args:
        sample: states at short and long lengths.
        reference: the longest length to predict from, such as that of training.
        threshold: the accuracy at one length below which the model has failed.

    Raises:
        ValueError: fewer than two lengths are up to `reference`, or all sequences have one label.

    Example:
        The two labels' states come nearer to each other as sequences grow, and meet at length 8.

        >>> import numpy as np
        >>> from plstm_seq.probing import Separability, StateSample, separability
        >>> labels = np.tile([0, 1], (3, 20))
        >>> states = np.eye(2)[labels]
        >>> states[2] = 0.5
        >>> sample = StateSample((2, 4, 8), states, labels, predictions=states.argmax(-1))
        >>> found: Separability = separability(sample, reference=4)
        >>> found.accuracy.tolist(), found.failed, found.reach.round(2).tolist()
        ([1.0, 1.0, 0.5], 8.0, [0.0, 0.0, 0.5])
    """
    chosen = _until(sample, reference)
    require(chosen.sum() >= 2, "reference", reference, "two lengths at most that long")
    states = sample.states.astype(np.float64)
    size = np.linalg.norm(states, axis=-1, keepdims=True)
    states = states / np.where(size > 0, size, 1)
    means, known = _means(states[chosen], sample.labels[chosen])
    if known.sum() < 2:
        raise ValueError("sample: got states of one label only, expected two labels or more")
    squares = np.square(means[:, None] - means).sum(-1)
    squares = np.where(known & known[:, None] & (squares > 0), squares, np.inf)
    distance = float(np.sqrt(squares.min(1)[known]).mean())
    spreads, reaches, nearest = [], [], []
    for at, labels in zip(states, sample.labels, strict=True):
        seen = (labels < len(known)) & known[np.minimum(labels, len(known) - 1)]
        own, there = labels[seen], at[seen]
        away = there - means[own]
        spreads.append(np.sqrt(np.square(away).sum(-1).mean()))
        along = away @ means.T - np.sum(away * means[own], axis=-1, keepdims=True)
        reaches.append(np.quantile((along / squares[own]).max(-1), 0.9))
        nearest.append((_nearest(at, means, known) == labels).mean())
    spread, reach, lengths = np.array(spreads), np.array(reaches), np.array(sample.lengths)
    passed = horizon(sample.lengths, sample.accuracy.tolist(), threshold)
    beyond = lengths[lengths > passed.length]
    return Separability(
        lengths=sample.lengths,
        spread=spread,
        distance=distance,
        ratio=spread / distance,
        reach=reach,
        nearest=np.array(nearest),
        accuracy=sample.accuracy,
        reference=reference,
        predicted=_crossing(lengths[chosen], reach[chosen]),
        failed=float(beyond[0]) if len(beyond) else math.inf,
    )


def _crossing(lengths: np.ndarray, reach: np.ndarray) -> float:
    """Return the length at which a line through the squared reach comes to `TOO_CLOSE` squared."""
    slope, start = np.polyfit(lengths, np.square(reach), 1)
    if slope * lengths.max() < 1e-9:  # only rounding error grows
        return math.inf
    return float(max(TOO_CLOSE**2 - start, 0) / slope)


def _until(sample: StateSample, length: int) -> np.ndarray:
    chosen = np.array(sample.lengths) <= length
    require(bool(chosen.any()), "lengths", sample.lengths, f"one up to {length}")
    return chosen


def _means(states: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean state of each label, and whether the label occurred."""
    labels = labels.ravel()
    one_hot = np.eye(labels.max() + 1)[labels]
    count = one_hot.sum(0)
    sums = one_hot.T @ states.reshape(len(labels), -1)
    return sums / np.maximum(count, 1)[:, None], count > 0


def _nearest(states: np.ndarray, means: np.ndarray, known: np.ndarray) -> np.ndarray:
    away = np.square(means).sum(-1) - 2 * states @ means.T
    return np.where(known, away, np.inf).argmin(-1)
