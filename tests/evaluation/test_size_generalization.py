from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plstm_seq.evaluation import size_generalization

KEY = jax.random.key(0)


class Batch(NamedTuple):
    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array
    owner: np.ndarray | None = None


class Echo(nnx.Module):
    """Answers what it reads, from `limit` on something else."""

    def __init__(self, limit=10_000):
        self.limit = limit

    def __call__(self, inputs):
        return jax.nn.one_hot(jnp.where(inputs < self.limit, inputs, 0), 50)


def grids(key, batch, size):
    """Every cell of row r, column c holds r + c."""
    del key
    rows = jnp.arange(size)
    cells = jnp.broadcast_to(rows[:, None] + rows, (batch, size, size))
    return Batch(cells, cells, jnp.ones(cells.shape, bool))


def images(key, batch, size):
    labels = jax.random.randint(key, (batch,), 0, size)
    return Batch(labels, labels, jnp.ones(batch, bool))


def graphs(key, batch, size):
    """Graph b has size + b nodes, numbered; the first is not scored, two are padding."""
    del key
    owner = np.repeat(np.arange(batch), size + np.arange(batch))
    nodes = np.concatenate([np.arange(size + b) for b in range(batch)])
    nodes, owner = (np.append(x, [0, 0]) for x in (nodes, owner))
    return Batch(nodes, nodes, nodes > 0, owner)


def evaluate(model, draw, sizes, **options):
    options = {"num_examples": 6, "batch_size": 4, **options}
    return size_generalization(model, draw, sizes, chance=0.1, key=KEY, **options)


def test_cells_and_whole_grids_are_counted():
    result = evaluate(Echo(5), grids, [3, 4, 2])
    assert result.lengths == (2, 3, 4)
    # At size 4 one cell of 16 holds 6 and two hold 5.
    assert [result.row("token", n).value for n in result.lengths] == [1, 1, 13 / 16]
    assert [result.row("sequence", n).value for n in result.lengths] == [1, 1, 0]
    assert [result.row("last", n).value for n in result.lengths] == [1, 1, 0]
    assert result.outcomes.num_sequences == 6
    assert str(result.horizon("sequence", 0.9)) == "3"
    assert result.describe() == "6 examples at each size of [2, 3, 4]"
    assert "0.812" in str(result)


def test_an_image_has_one_label():
    result = evaluate(Echo(4), images, [4, 8], num_examples=64, batch_size=64)
    assert result.row("token", 4).value == 1
    key = jax.random.fold_in(jax.random.fold_in(KEY, 8), 0)
    labels = np.asarray(images(key, 64, 8).targets)
    expected = np.mean((labels < 4) | (labels == 0))
    for metric in ("token", "sequence", "last"):
        assert result.row(metric, 8).value == expected


def test_nodes_are_counted_for_their_graph():
    result = evaluate(Echo(4), graphs, [3], num_examples=4, axis="depth")
    # Graphs of 3 to 6 nodes, numbered from 0: the first has no node above 3, the others 0 to 2.
    assert result.outcomes.scored.tolist() == [[2, 3, 4, 5]]
    assert result.outcomes.correct.tolist() == [[2, 3, 3, 3]]
    assert result.outcomes.last.tolist() == [[True, True, False, False]]
    assert result.axis == "depth"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_examples": 0}, "num_examples"),
        ({"batch_size": 0}, "batch_size"),
        ({"sizes": []}, "sizes: got"),
        ({"sizes": [0]}, "sizes: got"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Echo(), images, **{"sizes": [2], **options})
