"""Correction at test time: every few symbols the state is replaced by a learned prototype.

Prototypes are learned from the model's own predictions; neither the task's labels nor its rule are
used. Where one state belongs to each label, as in word problems, this keeps the small errors of
inexact transitions from adding up (arXiv 2606.07254 projects onto prototypes of a group).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from plstm_seq.batches import Sample
from plstm_seq.evaluation.sources import EvaluatedModel

SNAPPED = "snapped_"


class Prototypes(NamedTuple):
    """A state for each label.

    Attributes:
        states: a tree like the model's state, with an axis of labels [V] in place of the batch.
        known: whether each label has a prototype, which it has if it was ever predicted.
    """

    states: Any
    known: Bool[Array, " V"]


def learn_prototypes(
    model: nnx.Module,
    sample: Sample,
    *,
    key: Array,
    length: int,
    num_sequences: int,
    batch_size: int = 128,
) -> Prototypes:
    """Average the states after which a model predicts each label.

    Args:
        model: an nnx module whose state is bounded, as `length_generalization` takes it.
        sample: draws sequences; their labels are not used.
        key: typed key; batch b draws from `fold_in(key, b)`.
        length: length of the sequences; choose one at which the model is right.
        num_sequences: number of sequences, rounded up to a multiple of `batch_size`; a few tens
            for each label are enough.
        batch_size: number of sequences that are run at once.

    Raises:
        ValueError: the model's state is not bounded, so that states cannot be averaged.

    Example:
        >>> import jax
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.evaluation import Prototypes, learn_prototypes
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> config = SequenceModelConfig(width=8, mixer=RNNConfig())
        >>> model, sample = SequenceModel(2, config, rngs=nnx.Rngs(0)), tasks.get("parity").sample
        >>> options = {"key": jax.random.key(0), "length": 8, "num_sequences": 16}
        >>> prototypes: Prototypes = learn_prototypes(model, sample, batch_size=16, **options)
        >>> prototypes.known.shape
        (2,)
    """
    evaluated: Any = model
    if not evaluated.bounded_state:
        raise ValueError("model: got one whose state grows, expected a state of bounded size")
    graphdef, variables = nnx.split(model)
    batches = [
        _sums(graphdef, variables, sample, batch_size, length, jax.random.fold_in(key, number))
        for number in range(-(-num_sequences // batch_size))
    ]
    sums, counts = jax.tree.map(lambda *parts: sum(parts), *batches)
    return Prototypes(
        states=jax.tree.map(lambda total: total / _along(jnp.maximum(counts, 1), total), sums),
        known=counts > 0,
    )


@partial(jax.jit, static_argnames=("graphdef", "sample", "batch", "length"))
def _sums(
    graphdef: nnx.GraphDef[Any], variables: Any, sample: Sample, batch: int, length: int, key: Array
) -> tuple[Any, Array]:
    """Sum the states after which each label was predicted, and count them."""
    model: Any = nnx.merge(graphdef, variables)
    inputs = sample(key, batch, length).inputs
    logits, state = model(inputs, initial_state=model.init_state(batch), return_state=True)
    labels = jax.nn.one_hot(logits[:, -1].argmax(-1), logits.shape[-1], axis=0)

    def total(leaf: Array) -> Array:
        exact = jax.lax.Precision.HIGHEST
        return jnp.tensordot(labels.astype(leaf.dtype), leaf, axes=1, precision=exact)

    return jax.tree.map(total, state), labels.sum(1)


def tracks(path: tuple[Any, ...], leaf: Array) -> bool:
    """Whether a leaf of a state tracks something: it is no count and no history of a convolution.

    Args:
        path: where the leaf is in the state.
        leaf: the array.
    """
    remembers_inputs = "convolution" in jax.tree_util.keystr(path)
    return not remembers_inputs and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


class Snapped(nnx.Module):
    """A model whose state, after every call, is the prototype of the label that it predicts last.

    Evaluated in chunks of n symbols, its state is corrected every n symbols. The integers of a
    state, and the inputs that a convolution remembers, are left as they are.

    Args:
        model: the model to correct.
        prototypes: from `learn_prototypes`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.evaluation import Prototypes, Snapped
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> config = SequenceModelConfig(width=8, mixer=RNNConfig())
        >>> model = SequenceModel(2, config, rngs=nnx.Rngs(0))
        >>> snapped = Snapped(model, Prototypes(model.init_state(2), known=jnp.ones(2, bool)))
        >>> state = snapped.init_state(1)
        >>> logits, state = snapped(jnp.zeros((1, 4), int), initial_state=state, return_state=True)
        >>> logits.shape
        (1, 4, 2)
    """

    def __init__(self, model: nnx.Module, prototypes: Prototypes):
        leaves, self.structure = jax.tree.flatten(prototypes)
        self.model = model
        self.leaves = nnx.List([nnx.Variable(leaf) for leaf in leaves])

    @property
    def bounded_state(self) -> bool:
        """True."""
        return True

    def init_state(self, batch_size: int) -> Any:
        """Return the model's state before the first symbol."""
        evaluated: EvaluatedModel = self.model  # pyright: ignore[reportAssignmentType]
        return evaluated.init_state(batch_size)

    def __call__(
        self, inputs: Array, *, initial_state: Any, return_state: bool
    ) -> tuple[Array, Any]:
        """Run the model on a chunk, then snap its state."""
        model: Any = self.model
        logits, state = model(inputs, initial_state=initial_state, return_state=return_state)
        leaves = [leaf[...] for leaf in self.leaves]
        states, known = jax.tree.unflatten(self.structure, leaves)
        label = logits[:, -1].argmax(-1)

        def snap(path: tuple[Any, ...], leaf: Array, prototypes: Array) -> Array:
            if not tracks(path, leaf):
                return leaf
            return jnp.where(_along(known[label], leaf), prototypes[label], leaf)

        return logits, jax.tree_util.tree_map_with_path(snap, state, states)


def _along(values: Array, like: Array) -> Array:
    """Gives values along the first axis as many axes as another array has."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
