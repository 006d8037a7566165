import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Parity, ToyBatch, ToyModel

from plstm_seq.training import (
    LengthRange,
    OptimizerConfig,
    init_state,
    make_dispatch,
    make_optimizer,
    make_train_step,
    with_hyperparameters,
)
from plstm_seq.training.loss import score

OPTIMIZER = make_optimizer(
    OptimizerConfig(learning_rate=0.01, warmup_steps=3, weight_decay=0.1), 40
)
LENGTHS = LengthRange(jnp.int32(2), jnp.int32(6))


def start(seed=0, param_dtype=jnp.float32):
    model = ToyModel(width=4, param_dtype=param_dtype, rngs=nnx.Rngs(seed))
    return init_state(model, OPTIMIZER, jax.random.key(seed))


def train_step(graphdef, bucket=8):
    return make_train_step(graphdef, OPTIMIZER, Parity().sample, batch_size=5, bucket=bucket)


def leaves(tree):
    """Arrays alone: a typed key has no weak type to lose."""
    return [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]


def assert_same_bits(one, other):
    def compare(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(compare, one, other)


def test_smoothed_labels_are_those_of_optax():
    rng = np.random.default_rng(0)
    logits, targets = jnp.asarray(rng.normal(size=(2, 3, 4))), rng.integers(4, size=(2, 3))
    smoothed = optax.smooth_labels(jax.nn.one_hot(targets, 4), 0.1)
    expected = optax.softmax_cross_entropy(logits, smoothed).mean()
    loss, _ = score(logits, jnp.asarray(targets), jnp.ones((2, 3), bool), 0.1)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_that_are_whole_count_as_labels(loss, smoothing):
    rng = np.random.default_rng(0)
    logits, targets = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.integers(4, size=5))
    mask = jnp.arange(5) != 2
    one = score(logits, targets, mask, smoothing, loss)
    other = score(logits, jax.nn.one_hot(targets, 4), mask, smoothing, loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


def test_losses_of_mixed_labels_are_those_written_out():
    rng = np.random.default_rng(1)
    logits, shares = rng.normal(size=(3, 4)), rng.dirichlet(np.ones(4), size=3)
    mask = jnp.array([True, True, False])
    soft = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    own = 1 / (1 + np.exp(-logits))
    binary = -(shares * np.log(own) + (1 - shares) * np.log(1 - own))
    expected = {
        "cross_entropy": (shares * soft).sum(-1)[:2].mean(),
        "binary_cross_entropy": binary[:2].mean(),
    }
    for loss, value in expected.items():
        found, counts = score(jnp.asarray(logits), jnp.asarray(shares), mask, loss=loss)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        right = (logits.argmax(-1) == shares.argmax(-1))[:2].sum()
        assert (int(counts["correct_tokens"]), int(counts["scored_tokens"])) == (right, 2)


def test_errors_of_numbers_are_those_written_out():
    rng = np.random.default_rng(2)
    outputs, targets = rng.normal(size=(2, 4, 3)).astype(np.float32)
    mask = jnp.array([True, False, True, False])
    errors = (outputs - targets)[::2]
    for loss, expected in (("squared_error", errors**2), ("absolute_error", abs(errors))):
        found, counts = score(jnp.asarray(outputs), jnp.asarray(targets), mask, loss=loss)
        np.testing.assert_allclose(found, expected.mean(), rtol=1e-6)
        assert {name: int(count) for name, count in counts.items()} == {"scored_tokens": 2}
    with pytest.raises(ValueError, match=r"targets: got shape \(4,\), expected \(4, 3\)"):
        score(jnp.asarray(outputs), jnp.zeros(4, int), mask, loss="squared_error")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["none", "some", "all"]))
def test_score_counts_what_a_loop_counts(seed, density):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 5, 3))
    targets = rng.integers(3, size=(4, 5))
    mask = rng.random((4, 5)) < {"none": 0.0, "some": 0.5, "all": 1.0}[density]
    losses, correct, whole, counted = [], 0, 0, 0
    for row in range(4):
        rights = []
        for t in np.flatnonzero(mask[row]):
            p = np.exp(logits[row, t]) / np.exp(logits[row, t]).sum()
            losses.append(-np.log(p[targets[row, t]]))
            rights.append(logits[row, t].argmax() == targets[row, t])
        correct += sum(rights)
        counted += bool(rights)
        whole += bool(rights) and all(rights)
    # Labels outside the mask mean nothing: they may be no class at all.
    loss, counts = score(logits, np.where(mask, targets, -1), mask)
    assert float(loss) == pytest.approx(np.mean(losses) if losses else 0.0)
    assert {name: int(value) for name, value in counts.items()} == {
        "correct_tokens": correct,
        "scored_tokens": mask.sum(),
        "correct_sequences": whole,
        "scored_sequences": counted,
    }


def test_padding_changes_neither_loss_nor_gradients():
    graphdef, state = start(param_dtype=jnp.float64)
    inputs = Parity().draw(jax.random.key(1), 5, 16)

    def sample(key, batch, length, *, lengths):
        targets, _ = Parity().advance(inputs[:, :length], jnp.zeros(batch, jnp.int32))
        return ToyBatch(inputs[:, :length], targets, jnp.arange(length) < lengths[:, None])

    results = []
    for bucket in (6, 16):
        step = make_train_step(graphdef, OPTIMIZER, sample, batch_size=5, bucket=bucket)
        results.append(jax.jit(step)(state, LENGTHS))
    for one, other in zip(*(jax.tree.leaves((s.parameters, m)) for s, m in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def dispatch():
    return jax.jit(make_dispatch(train_step(start()[0]), 20))


@pytest.mark.parametrize("groups", [(3, 4), (1, 1, 5)], ids=str)
def test_steps_are_the_same_bits_however_grouped(dispatch, groups):
    _, state = start()
    expected, expected_metrics = dispatch(state, LENGTHS, jnp.int32(7))
    losses = []
    for count in groups:
        state, metrics = dispatch(state, LENGTHS, jnp.int32(count))
        losses += list(np.asarray(metrics["loss"])[:count])
    assert_same_bits(state, expected)
    np.testing.assert_array_equal(losses, np.asarray(expected_metrics["loss"])[:7])
    assert dispatch._cache_size() == 1
    assert int(state.step) == 7


def test_every_step_draws_other_data_of_lengths_in_range(dispatch):
    _, state = start()
    _, metrics = dispatch(state, LENGTHS, jnp.int32(20))
    tokens = np.asarray(metrics["tokens"])
    assert len(set(tokens)) > 5
    assert tokens.min() >= 5 * 2
    assert tokens.max() <= 5 * 6


def test_members_by_vmap_equal_members_alone():
    rates = [0.01, 0.002, 0.03]
    singles = []
    for seed, rate in enumerate(rates):
        graphdef, state = start(seed, jnp.float64)
        optimizer = with_hyperparameters(state.optimizer, learning_rate=rate)
        singles.append(type(state)(state.step, state.key, state.parameters, state.rest, optimizer))
    many_steps = make_dispatch(train_step(graphdef), 10)
    alone = jax.jit(many_steps)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
    members, _ = jax.jit(jax.vmap(many_steps, in_axes=(0, None, None)))(
        together, LENGTHS, jnp.int32(10)
    )
    for index, single in enumerate(singles):
        expected, _ = alone(single, LENGTHS, jnp.int32(10))
        for one, other in zip(
            jax.tree.leaves(members.parameters), jax.tree.leaves(expected.parameters), strict=True
        ):
            np.testing.assert_allclose(one[index], other, rtol=1e-9, atol=1e-12)


def test_state_owns_its_arrays_and_keeps_their_types():
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    graphdef, state = init_state(model, OPTIMIZER, jax.random.key(0))
    after, _ = jax.eval_shape(train_step(graphdef), state, LENGTHS)
    types = [(leaf.shape, leaf.dtype, jax.typeof(leaf).weak_type) for leaf in leaves(state)]
    assert types == [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves(after)]
    jax.jit(lambda state: state, donate_argnums=0)(state)
    assert state.parameters["head"]["kernel"][...].is_deleted()
    model(jnp.zeros((1, 3), jnp.int32))
