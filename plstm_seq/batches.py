"""The protocols of a batch and of the functions that draw one, on the device or on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int


class Examples(Protocol):
    """A batch of labelled examples; `mask` is true at the positions that are scored.

    The model is called with `inputs`. The targets are labels: `[B, T]` for sequences, `[B]` for
    images or graphs and `[B, X, Y]` for grids. Mixed labels are floating-point, with one more axis
    that holds the share of every label. A model that predicts numbers has numbers as its targets.
    Labels of nodes are `[N]` for all nodes of B graphs; then `owner` [N] is the number of the graph
    that each node belongs to.
    """

    @property
    def inputs(self) -> Any: ...  # noqa: D102
    @property
    def targets(self) -> Int[Array, "B ..."] | Float[Array, "B ... V"]: ...  # noqa: D102
    @property
    def mask(self) -> Bool[Array, "B ..."]: ...  # noqa: D102


class Sample(Protocol):
    """A function that draws a batch on the device; `lengths` is traced, `batch` and `length` not.

    Example:
        >>> import jax
        >>> import tasks
        >>> from plstm_seq.training import Examples, Sample
        >>> sample: Sample = tasks.get("parity").sample
        >>> batch: Examples = sample(jax.random.key(0), 2, 5)
        >>> batch.inputs.shape, batch.targets.shape, batch.mask.shape
        ((2, 5), (2, 5), (2, 5))
    """

    def __call__(
        self, key: Array, batch: int, length: int, *, lengths: Int[Array, " B"] | None = None
    ) -> Examples:
        """Draw `batch` sequences of the real lengths `lengths`, padded to `length`.

        For images and grids `length` is the size, and all `lengths` are equal to it.
        """
        ...


@runtime_checkable
class HostSample(Protocol):
    """An object that makes batches on the host, for instance from files or of graphs.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import tasks
        >>> from flax import nnx
        >>> from plstm_seq.training import HostSample, Sizes, TrainingConfig, fit
        >>> class Copies:
        ...     def on_host(self, seed, step, batch, size):
        ...         tokens = np.random.default_rng((*seed, step)).integers(2, size=(batch, size))
        ...         return tasks.Batch(tokens, tokens, np.ones((batch, size), bool))
        >>> source: HostSample = Copies()
        >>> config = TrainingConfig(4, curriculum=Sizes(((8, 4),)))
        >>> fit(nnx.Embed(2, 2, rngs=nnx.Rngs(0)), source, config, key=jax.random.key(0)).status
        'finished'
    """

    def on_host(self, seed: Sequence[int], step: int, batch: int, size: int) -> Examples:
        """Return the batch of a training step as numpy arrays; it depends on the arguments alone.

        Args:
            seed: the seed of the training, the same for all steps.
            step: number of the step, counted from 0.
            batch: number of examples.
            size: the size that the curriculum asks for.
        """
        ...
