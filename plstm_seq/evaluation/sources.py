"""What evaluation asks of tasks, as plain callables, and of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Bool, Int


class Stream(NamedTuple):
    """A task whose labels depend only on the past, so that one pass measures every length.

    Its inputs do not depend on the length, so that they are drawn and labelled piece by piece.

    Attributes:
        draw: (key, batch, length) -> inputs int32 [batch, length].
        start: (batch) -> the task's state before the first symbol, any pytree.
        advance: (inputs, state) -> (targets int32 [batch, length], the state after them).
        period: `draw` is asked only for lengths that are multiples of this.

    Example:
        >>> import jax
        >>> import tasks
        >>> from plstm_seq.evaluation import Stream
        >>> task = tasks.get("parity")
        >>> stream = Stream(task.draw, task.start, task.advance)
        >>> inputs = stream.draw(jax.random.key(0), 2, 5)
        >>> targets, state = stream.advance(inputs, stream.start(2))
        >>> inputs.shape, targets.shape
        ((2, 5), (2, 5))

        An evaluation on it that is stopped goes on from the place that a bookmark kept:

        >>> from flax import nnx
        >>> from plstm_seq.evaluation import Bookmark, Place, length_generalization
        >>> from plstm_seq.layers.mixers import RNNConfig
        >>> from plstm_seq.models import SequenceModel, SequenceModelConfig
        >>> class LastPlace:
        ...     place = None
        ...     def find(self, start):
        ...         return start if self.place is None else self.place
        ...     def put(self, place, read, symbols):
        ...         self.place = place
        >>> config = SequenceModelConfig(width=8, mixer=RNNConfig())
        >>> model = SequenceModel(2, config, rngs=nnx.Rngs(0))
        >>> bookmark: Bookmark = LastPlace()
        >>> options = {"chance": task.chance, "key": jax.random.key(0), "num_sequences": 8}
        >>> _ = length_generalization(model, stream, [16], bookmark=bookmark, **options)
        >>> kept: Place = bookmark.place
        >>> kept.batch.item()
        1
    """

    draw: Callable[[Array, int, int], Int[Array, "B T"]]
    start: Callable[[int], Any]
    advance: Callable[[Int[Array, "B T"], Any], tuple[Int[Array, "B T"], Any]]
    period: int = 1


class Examples(Protocol):
    """A batch of labelled examples; `mask` is true at the positions that are scored.

    Inputs are what the model is called with. Labels are [B, T] of sequences, [B] of images or
    graphs, [B, X, Y] of grids; or [N] of all nodes of B graphs, where `owner` [N] says whose they
    are.
    """

    @property
    def inputs(self) -> Any: ...  # noqa: D102
    @property
    def targets(self) -> Int[Array, "B ..."]: ...  # noqa: D102
    @property
    def mask(self) -> Bool[Array, "B ..."]: ...  # noqa: D102


class Sample(Protocol):
    """A task that is sampled anew at every length (final answers, inputs with structure).

    Example:
        >>> import jax
        >>> import tasks
        >>> from plstm_seq.evaluation import Sample
        >>> sample: Sample = tasks.get("majority").sample
        >>> sample(jax.random.key(0), 2, 5, lengths=[5, 3]).mask.astype(int).tolist()
        [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    """

    def __call__(
        self, key: Array, batch: int, length: int, *, lengths: Int[Array, " B"] | None = None
    ) -> Examples:
        """Draw `batch` sequences padded to `length`, of the real lengths `lengths`."""
        ...


Source = Stream | Sample


class EvaluatedModel(Protocol):
    """What evaluation asks of a model.

    `bounded_state` says whether the size of the state is the same after any number of symbols; if
    not, only `model(inputs)` is called.
    """

    @property
    def bounded_state(self) -> bool: ...  # noqa: D102
    def init_state(self, batch_size: int, /) -> Any: ...  # noqa: D102
    def __call__(self, inputs: Array, /, **options: Any) -> Any: ...  # noqa: D102
