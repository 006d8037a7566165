"""Random trees of a given depth and random acyclic graphs of a given size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.graphs.order import ranks


class Trees(NamedTuple):
    """Trees side by side; the root of each is its last node, and edges lead to higher numbers.

    Attributes:
        edge_index: int32 `[2, E]`, from children to parents, ordered by parent and then slot.
        kind: int32 `[N]`, which kind of inner node each is; -1 for leaves.
        slot: int32 `[N]`, the place of each node among its siblings.
        graph: int32 `[N]`, the tree that each belongs to.
    """

    edge_index: np.ndarray
    kind: np.ndarray
    slot: np.ndarray
    graph: np.ndarray


def random_trees(
    random: np.random.Generator,
    batch: int,
    depth: int,
    fewest: np.ndarray,
    most: np.ndarray,
    share: float,
) -> Trees:
    """Draw trees whose longest path has `depth` edges.

    The root is an inner node, and a random child of each inner node on the longest path is the
    next one on it, until the depth is reached. Every other child is an inner node with probability
    `share` while the depth allows it, and a leaf else. Kinds of inner nodes are uniform, and the
    number of children is uniform among those that a kind may have.

    Args:
        random: Random numbers.
        batch: Number of trees.
        depth: At least 1.
        fewest: int `[kinds]`, fewest children that each kind of inner node has, at least 1.
        most: int `[kinds]`, most children.
        share: Probability of an inner node off the longest path.
    """
    graph, on_path = np.arange(batch), np.ones(batch, bool)
    parent, slot = np.full(batch, -1), np.zeros(batch, np.int64)
    layers, count = [], 0
    for level in range(depth + 1):
        inner = (on_path | (random.random(len(graph)) < share)) & (level < depth)
        kind = np.where(inner, random.integers(len(fewest), size=len(graph)), -1)
        layers.append((parent, kind, slot, graph))
        drawn = random.integers(fewest[kind], most[kind] + 1)
        children, heir = np.where(inner, drawn, 0), random.integers(drawn)
        slot = ranks(children)
        on_path = np.repeat(on_path, children) & (slot == np.repeat(heir, children))
        parent = np.repeat(np.arange(count, count + len(graph)), children)
        count, graph = count + len(graph), np.repeat(graph, children)
    parent, kind, slot, graph = map(np.concatenate, zip(*layers, strict=True))
    # Layer by layer from the root; to be numbered graph by graph, the root last.
    order = np.lexsort((-np.arange(count), graph))
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    parent, slot = parent[order], slot[order]
    children = np.flatnonzero(parent >= 0)
    parents = place[parent[children]]
    edges = np.lexsort((slot[children], parents))
    edge_index = np.stack([children[edges], parents[edges]])
    arrays = (edge_index, kind[order], slot, graph[order])
    return Trees(*(array.astype(np.int32) for array in arrays))


def random_inputs(
    random: np.random.Generator,
    batch: int,
    size: int,
    window: int,
    most: int,
    colours: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each node which of the nodes before it are its inputs.

    Node 0 has none. Every other has 1 .. `most`, uniformly, of the `window` nodes before it, as far
    as there are so many. So the longest path grows with the size.

    Args:
        random: Random numbers.
        batch: Number of graphs.
        size: Nodes of each.
        window: How far back inputs lie.
        most: Most inputs.
        colours: int `[batch, size]`, of nodes. If given, the first input has a colour that no other
            input of the node has.

    Returns:
        The edges, int32 `[2, E]`, ordered by the node that they enter, in numbers of all graphs;
        and the first input of each node, int `[batch, size]`, as a number within its graph. It is
        negative for node 0.
    """
    here, back = np.ogrid[:size, 1 : window + 1]
    inputs = here - back
    scores = np.where(inputs >= 0, random.random((batch, size, window)), np.inf)
    first = scores.argmin(axis=2)
    if colours is not None:
        theirs = colours[:, np.maximum(inputs, 0)]
        own = np.take_along_axis(theirs, first[..., None], axis=2)
        alike = (theirs == own) & (np.arange(window) != first[..., None])
        scores[alike] = np.inf
    wanted = random.integers(1, most + 1, (batch, size, 1))
    place = scores.argsort(axis=2).argsort(axis=2)
    graph, head, offset = np.nonzero((place < wanted) & np.isfinite(scores))
    head = head + size * graph
    edge_index = np.stack([head - 1 - offset, head]).astype(np.int32)
    return edge_index, np.arange(size) - 1 - first
