"""Accuracy over a mixture of lengths, against counts that are known without running a model."""

import jax
import numpy as np
import pytest
from flax import nnx
from toy import FaultyParity, FinalParity, Parity, ToyModel, UnboundedParity

from plstm_seq.evaluation import mixture_of_lengths

KEY = jax.random.key(3)


def mixture(model, task=None, minimum=2, maximum=6, **options):
    options = {"num_sequences": 13, "batch_size": 4, "chance": 0.5, **options}
    rows = mixture_of_lengths(
        model, (task or Parity()).sample, minimum, maximum, key=KEY, **options
    )
    return {row.metric.removeprefix("mixture_"): row for row in rows}


@pytest.mark.parametrize("errors", [(), (3,), (0, 4)], ids=["none", "in the middle", "two"])
def test_every_length_counts_equally(errors):
    rows = mixture(FaultyParity(*errors))
    lengths = [2 + index % 5 for index in range(13)]
    wrong = np.array([sum(error < length for error in errors) for length in lengths])
    right = np.array(lengths) - wrong
    assert rows["token"].value == pytest.approx(right.sum() / sum(lengths))
    assert rows["sequence"].value == pytest.approx((wrong == 0).mean())
    assert rows["last"].value == pytest.approx(np.mean([n - 1 not in errors for n in lengths]))
    by_length = [(n - sum(error < n for error in errors)) / n for n in range(2, 7)]
    assert rows["token_by_length"].value == pytest.approx(np.mean(by_length))
    row = rows["last"]
    assert (row.start, row.length, row.num_sequences) == (2, 6, 13)
    assert row.low <= row.value <= row.high
    assert row.scaled == pytest.approx(2 * row.value - 1)


def test_final_labels_and_unbounded_states():
    assert mixture(FaultyParity(5), FinalParity())["last"].value == pytest.approx(11 / 13)
    assert mixture(UnboundedParity())["sequence"].value == 1.0


def test_one_length_and_a_function_of_the_key():
    model = ToyModel(rngs=nnx.Rngs(0))
    first, again = (mixture(model, minimum=5, maximum=5) for _ in range(2))
    assert first == again
    assert first["token"].value == pytest.approx(first["token_by_length"].value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minimum": 7}, r"minimum, maximum: got \(7, 6\), expected 1 <= minimum <= maximum"),
        ({"num_sequences": 0}, "num_sequences: got 0, expected at least 1"),
        ({"chance": 1.0}, "chance: got 1.0, expected in"),
    ],
    ids=["lengths", "sequences", "chance"],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        mixture(FaultyParity(), **wrong)
