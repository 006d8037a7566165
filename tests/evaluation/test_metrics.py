import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plstm_seq.evaluation import Horizon, bootstrap, horizon, scaled, wilson

PROPORTIONS = st.integers(1, 600).flatmap(
    lambda trials: st.tuples(st.integers(0, trials), st.just(trials))
)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [  # R: prop.test(x, n, correct=FALSE)$conf.int
        (0, 10, (0.0, 0.2775328)),
        (5, 10, (0.2365931, 0.7634069)),
        (81, 263, (0.2552810, 0.3662230)),
        (512, 512, (0.9925530, 1.0)),
    ],
)
def test_wilson_is_the_textbook_interval(successes, trials, expected):
    assert wilson(successes, trials)[1:] == pytest.approx(expected, abs=2e-4)


@given(PROPORTIONS, st.floats(0.5, 0.999))
def test_wilson_solves_the_score_equation(proportion, confidence):
    successes, trials = proportion
    value, low, high = wilson(successes, trials, confidence=confidence)
    assert 0 <= low <= value <= high <= 1
    # Its ends are where the normal test of the true proportion just rejects, one z for both.
    scores = [
        abs(value - end) / np.sqrt(end * (1 - end) / trials)
        for end in (low, high)
        if 1e-9 < end < 1 - 1e-9
    ]
    assert scores
    assert np.ptp(scores) < 1e-6 * scores[0] + 1e-9


@given(PROPORTIONS)
def test_more_confidence_is_a_wider_interval(proportion):
    narrow, wide = (wilson(*proportion, confidence=c) for c in (0.8, 0.99))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


def test_bootstrap_resamples_sequences_not_tokens():
    """Sequences all right or all wrong hold one bit each, however many tokens they have."""
    right = np.arange(400) < 300
    few, many = (bootstrap(right * n, np.full(400, n)) for n in (1, 1000))
    assert few == pytest.approx(many)
    assert few == pytest.approx(wilson(300, 400), abs=0.01)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        rates = rng.beta(8, 2, size=200)  # the true token accuracy is 0.8
        estimate = bootstrap(rng.binomial(20, rates), np.full(200, 20), resamples=400)
        hits += estimate.low <= 0.8 <= estimate.high
    assert 180 <= hits <= 199


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_bootstrap_weighs_sequences_by_their_scored_positions(pairs):
    correct = np.array([min(pair) for pair in pairs])
    scored = np.array([max(pair) for pair in pairs])
    if scored.sum() == 0:
        with pytest.raises(ValueError, match="scored: got none, expected one"):
            bootstrap(correct, scored)
        return
    estimate = bootstrap(correct, scored, resamples=50)
    assert estimate.value == correct.sum() / scored.sum()
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate == bootstrap(correct, scored, resamples=50)


@given(st.lists(st.sampled_from([0.5, 0.89, 0.9, 0.95, 1.0]), max_size=6))
def test_horizon_is_the_longest_unbroken_run_from_the_start(accuracies):
    lengths = [4**n for n in range(len(accuracies))]
    passing = [
        length
        for index, length in enumerate(lengths)
        if all(accuracy >= 0.9 for accuracy in accuracies[: index + 1])
    ]
    found = horizon(lengths, accuracies, 0.9)
    assert found.length == max(passing, default=0)
    assert found.open_ended == bool(lengths and passing == lengths)


def test_horizon_reads_as_text():
    assert str(Horizon(256, open_ended=False)) == "256"
    assert str(Horizon(4096, open_ended=True)) == ">=4096"


def test_scaled_puts_chance_at_zero():
    assert scaled(0.2, 0.2) == 0
    assert scaled(1.0, 0.2) == 1
    assert scaled(0.6, 0.2) == pytest.approx(0.5)
    assert scaled(0.0, 0.2) == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scaled(0.5, 1.0), "chance: got 1.0, expected in"),
        (lambda: wilson(3, 2), "successes, trials: got"),
        (lambda: wilson(0, 0), "successes, trials: got"),
        (lambda: wilson(1, 2, confidence=1.0), "confidence: got 1.0, expected in"),
        (
            lambda: bootstrap(np.ones(2, int), np.ones(2, int), confidence=0),
            "confidence: got 0, expected in",
        ),
        (lambda: horizon([4, 2], [1, 1], 0.9), "expected ascending lengths"),
        (lambda: horizon([2, 4], [1], 0.9), "expected ascending lengths"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
