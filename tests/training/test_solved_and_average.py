"""Accuracies measured on lengths of one's choice, and averaged parameters."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorder import Recorder
from toy import Parity, ToyModel

from plstm_seq.training import (
    Checkpoints,
    Member,
    OptimizerConfig,
    Solved,
    Staged,
    TrainingConfig,
    Uniform,
    fit,
    fit_members,
    init_state,
    load_model,
    make_optimizer,
)
from plstm_seq.training.leaves import named_leaves
from plstm_seq.training.programs import measured_accuracy

TASK = Parity()
CONFIG = TrainingConfig(
    steps=12,
    batch_size=4,
    steps_per_dispatch=3,
    checkpoint_every=6,
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=1),
    curriculum=Staged(((3, 4), (6, 8)), smallest_bucket=8),
    solved=None,
)


def new_model(seed=0, dtype=jnp.float32):
    return ToyModel(width=4, param_dtype=dtype, rngs=nnx.Rngs(seed))


def train(config, seed=0, dtype=jnp.float32, **options):
    model, recorder = new_model(seed, dtype), Recorder()
    trackers = [recorder]
    result = fit(model, TASK.sample, config, key=jax.random.key(seed), trackers=trackers, **options)
    return model, result, recorder.records


def leaves(tree):
    return {name: np.asarray(x) for name, x in named_leaves(tree).items()}


def assert_same(one, other, tolerance=0.0):
    one, other = leaves(one), leaves(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=0, atol=tolerance, err_msg=name)


class TestAverage:
    config = replace(CONFIG, average=0.3)

    def test_is_that_of_a_computation_by_hand(self):
        """One step at a time; the first decays are 1/10, 2/11, ..."""
        config = replace(self.config, steps_per_dispatch=1)
        average = leaves(nnx.state(new_model(dtype=jnp.float64), nnx.Param))
        seen = []

        class Watch(Recorder):
            def log(self, record):
                seen.append(record["step"])

        model = new_model(dtype=jnp.float64)
        parameters = []
        fit(
            model,
            TASK.sample,
            replace(config, validate_every=1),
            key=jax.random.key(0),
            trackers=[Watch()],
            validate=lambda m: parameters.append(leaves(nnx.state(m, nnx.Param))) or {},
        )
        assert seen == list(range(1, 13))
        for t, now in enumerate(parameters):
            decay = min(0.3, (1 + t) / (10 + t))
            average = {n: decay * x + (1 - decay) * now[n] for n, x in average.items()}
        _, result, _ = train(config, dtype=jnp.float64)
        for name, value in leaves(result.average).items():
            np.testing.assert_allclose(value, average[name], rtol=1e-12, err_msg=name)
        assert not np.allclose(average["head.kernel"], parameters[-1]["head.kernel"], rtol=1e-6)

    def test_does_not_change_training(self):
        model, _, records = train(self.config)
        plain, result, expected = train(CONFIG)
        assert result.average is None
        assert_same(nnx.state(model), nnx.state(plain))
        assert [r["loss"] for r in records] == [r["loss"] for r in expected]

    def test_survives_resuming_and_is_read_from_a_checkpoint(self, tmp_path):
        _, whole, _ = train(self.config)
        train(self.config, folder=tmp_path)
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.discard_after(6)
        _, resumed, records = train(self.config, folder=tmp_path, resume=True)
        assert records[0]["step"] == 9
        assert_same(resumed.average, whole.average)
        read = new_model(3)
        assert load_model(read, tmp_path, average=True).step == 12
        assert_same(nnx.state(read, nnx.Param), whole.average)
        _, again, _ = train(self.config, folder=tmp_path, resume=True)  # has ended
        assert_same(again.average, whole.average)

    def test_of_a_checkpoint_without_one_it_is_refused(self, tmp_path):
        train(CONFIG, folder=tmp_path)
        with pytest.raises(ValueError, match="average is missing"):
            load_model(new_model(), tmp_path, average=True)
        with pytest.raises(ValueError, match="average is missing"):
            train(self.config, folder=tmp_path, resume=True)

    def test_members_have_their_own(self):
        group = [
            Member(new_model(seed, jnp.float64), self.config, jax.random.key(seed))
            for seed in range(2)
        ]
        for seed, result in enumerate(fit_members(group, TASK.sample)):
            _, alone, _ = train(self.config, seed, jnp.float64)
            assert_same(result.average, alone.average, 1e-9)


class Constant(nnx.Module):
    """Says 1 for 0 at position 3 (counted from 1), and elsewhere what parity says."""

    def __init__(self):
        self.unused = nnx.Param(jnp.zeros(()))

    def __call__(self, tokens):
        labels = jnp.cumsum(tokens, 1) % 2
        labels = labels.at[:, 2:3].set(1 - labels[:, 2:3])
        return jax.nn.one_hot(labels, 2)


def measure(solved, **changes):
    config = replace(CONFIG, solved=solved, **changes)
    optimizer = make_optimizer(config.optimizer, config.steps)
    graphdef, state = init_state(Constant(), optimizer, jax.random.key(0))
    return float(measured_accuracy(graphdef, TASK.sample, config, state))


class TestMeasured:
    def test_the_least_of_several_lengths_counts(self):
        at = {"num_sequences": 10}
        assert measure(Solved("sequence_accuracy", lengths=(1, 2), **at)) == 1.0
        assert measure(Solved("sequence_accuracy", lengths=(1, 3), **at)) == 0.0
        assert measure(Solved("token_accuracy", lengths=(1, 9), **at)) == pytest.approx(8 / 9)
        assert measure(Solved("last_accuracy", lengths=(1, 3), **at)) == 0.0
        assert measure(Solved("last_accuracy", lengths=(5, 9), **at)) == 1.0

    def test_a_mixture_is_pooled(self):
        """Of lengths 1 to 5, those from 3 on are wrong at one position."""
        mixture = {"mixture": (1, 5), "num_sequences": 11}
        assert measure(Solved("sequence_accuracy", **mixture)) == pytest.approx(5 / 11)
        tokens = 2 * (1 + 2 + 3 + 4 + 5) + 1
        assert measure(Solved("token_accuracy", **mixture)) == pytest.approx((tokens - 6) / tokens)
        assert measure(Solved("last_accuracy", **mixture)) == pytest.approx(9 / 11)

    def test_no_more_symbols_at_once_than_in_training(self):
        shapes = []

        def sample(key, batch, length, *, lengths=None):
            shapes.append((batch, length))
            return TASK.sample(key, batch, length, lengths=lengths)

        config = replace(CONFIG, solved=Solved(lengths=(2, 12, 100), num_sequences=3))
        optimizer = make_optimizer(config.optimizer, config.steps)
        graphdef, state = init_state(Constant(), optimizer, jax.random.key(0))
        measured_accuracy(graphdef, sample, config, state)
        assert set(shapes) == {(3, 2), (2, 12), (1, 100)}

    def test_ends_training_in_the_last_stage_after_good_measurements(self, tmp_path):
        solved = Solved(threshold=0.0, checks=2, lengths=(9,), num_sequences=4, every=2)
        _, result, records = train(replace(CONFIG, solved=solved), folder=tmp_path)
        assert (result.status, result.step) == ("solved", 8)
        measured = [r["step"] for r in records if "solved_accuracy" in r]
        assert measured == [6, 8]
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.discard_after(6)
        _, again, rest = train(replace(CONFIG, solved=solved), folder=tmp_path, resume=True)
        assert again[:2] == result[:2]
        assert rest[-1]["solved_accuracy"] == records[-1]["solved_accuracy"]

    def test_members_are_measured_each(self):
        solved = Solved(threshold=1.0, checks=1, lengths=(3,), num_sequences=8, every=4)
        config = replace(CONFIG, steps=8, curriculum=Uniform(2, 4), solved=solved)
        group = [
            Member(new_model(seed), config, jax.random.key(seed), trackers=[Recorder()])
            for seed in range(3)
        ]
        results = fit_members(group, TASK.sample, progress=Recorder())
        for seed, (member, result) in enumerate(zip(group, results, strict=True)):
            _, expected, records = train(config, seed)
            assert result[:2] == expected[:2]
            accuracies = [
                [r.get("solved_accuracy") for r in own]
                for own in (member.trackers[0].records, records)
            ]
            assert accuracies[0] == accuracies[1]
            assert [r["step"] for r in records if "solved_accuracy" in r][:1] == [4]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"every": 3}, "every: got 3, expected null without lengths"),
            ({"num_sequences": 3}, "num_sequences: got 3, expected null without lengths"),
            ({"metric": "last_accuracy"}, "metric: got 'last_accuracy', expected one of"),
            ({"metric": "validation_x", "lengths": (4,)}, "metric: got .*, expected one of"),
            ({"lengths": (4,), "mixture": (2, 4)}, "expected one of them"),
            ({"lengths": ()}, "one or more numbers"),
            ({"mixture": (5, 4)}, "the shorter first"),
            ({"lengths": (4,), "every": 0}, "every: got 0, expected at least 1"),
        ],
    )
    def test_nonsense_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            Solved(**options)

    def test_needs_sequences_of_the_device(self):
        config = replace(CONFIG, solved=Solved(lengths=(4,)))
        with pytest.raises(ValueError, match="drawn on the device"):
            fit(new_model(), SimpleNamespace(on_host=print), config, key=jax.random.key(0))
        for average in (0.0, 1.0):
            with pytest.raises(ValueError, match=r"average: got .*, expected in"):
                replace(CONFIG, average=average)
