"""Inputs of any kind with their labels, and what they look like."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from experiments.problems.base import Problem
from plstm_seq.training import HostSample


class Labelled(NamedTuple):
    """A batch, as training and evaluation take it.

    Attributes:
        inputs: what the model reads.
        targets: label ids, `[B]`, `[B, ...]`, or `[N]` of the nodes of graphs; or numbers to
            predict, `[B, A]`.
        mask: bool like `targets`, what is scored; `[B]` of numbers.
        owner: int `[N]`, the graph of each node, where nodes are labelled.
    """

    inputs: Any
    targets: Any
    mask: Any
    owner: Any = None


def shapes_of(problem: Problem, batch: int, size: int) -> Any:
    """Shapes and types of a batch; nothing is computed where the device draws it."""

    def draw(seed: int) -> Any:
        drawn = problem.draw(jax.random.key(seed), batch, size)
        return Labelled(drawn.inputs, drawn.targets, drawn.mask)

    if isinstance(problem.sample, HostSample):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), draw(0))
    return jax.eval_shape(draw, 0)
