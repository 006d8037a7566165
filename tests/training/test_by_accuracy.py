"""Stages that end when they are learned, in one training and in many."""

import os
import signal
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorder import Recorder
from toy import Parity, ToyModel

from plstm_seq.training import (
    TIMING_FIELDS,
    ByAccuracy,
    Checkpoints,
    Member,
    OptimizerConfig,
    Sizes,
    Solved,
    Staged,
    TrainingConfig,
    fit,
    fit_members,
)
from plstm_seq.training.curriculum import START, Standing
from plstm_seq.training.leaves import named_leaves
from plstm_seq.training.optimizer import NOT_BEGUN, make_schedule

TASK = Parity()
STAGES = ((2, 60), (4, 60), (8, 30))
CONFIG = TrainingConfig(
    steps=150,
    batch_size=16,
    steps_per_dispatch=5,
    checkpoint_every=20,
    optimizer=OptimizerConfig(learning_rate=0.03, warmup_steps=1, final_fraction=0.0),
    curriculum=ByAccuracy(STAGES, threshold=0.97, checks=2, smallest_bucket=4),
    solved=None,
)


@pytest.fixture(autouse=True)
def ctrl_c_means_interrupt():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def press_at(step):
    def then(record):
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return Recorder(then)


def new_model(seed, dtype=jnp.float32):
    return ToyModel(width=8, param_dtype=dtype, rngs=nnx.Rngs(seed))


def train(seed=0, config=CONFIG, recorder=None, dtype=jnp.float32, **options):
    model, recorder = new_model(seed, dtype), recorder or Recorder()
    result = fit(
        model, TASK.sample, config, key=jax.random.key(seed), trackers=[recorder], **options
    )
    return model, result, recorder.records


def new_member(seed, config=CONFIG, dtype=jnp.float32, recorder=None, folder=None):
    trackers = [recorder or Recorder()]
    return Member(new_model(seed, dtype), config, jax.random.key(seed), folder, trackers)


def timeless(records):
    return [{n: v for n, v in record.items() if n not in TIMING_FIELDS} for record in records]


def places(records):
    return [(r["step"], r["stage"], r["maximum_length"]) for r in records]


def assert_same(one, other, tolerance=0.0):
    expected = named_leaves(nnx.state(other))
    for name, value in named_leaves(nnx.state(one)).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance, err_msg=name)


class TestCurriculum:
    curriculum = ByAccuracy(((4, 10), (8, 20), (20, 30)), threshold=0.9, checks=2)

    def test_a_stage_ends_after_good_records_in_a_row(self):
        standing = START
        for step, accuracy in ((2, 0.9), (4, 0.5), (6, 0.9)):
            standing = self.curriculum.after(standing, step, {"sequence_accuracy": accuracy})
        assert standing == Standing(0, 0, 1)
        assert self.curriculum.after(standing, 8, {"sequence_accuracy": 1.0}) == Standing(1, 8, 0)

    def test_a_stage_ends_at_its_most_steps(self):
        standing = Standing(1, 7, 1)
        assert self.curriculum.phase(9, standing) == (1, 8, 16, 27)
        bad = {"sequence_accuracy": 0.0}
        assert self.curriculum.after(standing, 26, bad) == Standing(1, 7, 0)
        assert self.curriculum.after(standing, 27, bad) == Standing(2, 27, 0)

    def test_the_last_stage_has_all_its_steps(self):
        last = Standing(2, 27)
        assert self.curriculum.phase(30, last) == (1, 20, 20, None)
        assert self.curriculum.after(last, 40, {"sequence_accuracy": 1.0}) == last
        assert self.curriculum.end(last, 60) == 57
        assert self.curriculum.end(START, 60) == 60
        assert self.curriculum.end(START, 30) == 30
        # What a training has beyond the stages' steps, the last one has.
        assert self.curriculum.end(last, 100) == 97
        assert self.curriculum.end(START, 100) == 100
        assert self.curriculum.buckets == (16, 20)

    def test_the_rate_has_fallen_where_training_may_not_last_the_stage(self):
        schedule = make_schedule(
            OptimizerConfig(warmup_steps=4, final_fraction=0.0), 50, self.curriculum.last_stage(50)
        )
        assert float(schedule(39, 40)) == 1.0
        assert float(schedule(45, 40)) == pytest.approx(0.5)
        assert float(schedule(50, 40)) == pytest.approx(0.0, abs=1e-6)

    def test_the_rate_falls_along_the_last_stage_alone(self):
        config = OptimizerConfig(warmup_steps=4, final_fraction=0.1)
        schedule = make_schedule(config, 60, self.curriculum.last_stage(60))
        before = [float(schedule(step, NOT_BEGUN)) for step in range(40)]
        assert before == [0.25, 0.5, 0.75, *[1.0] * 37]
        last = np.array([float(schedule(step, 27)) for step in range(27, 58)])
        np.testing.assert_allclose(last[[0, 15, 30]], [1.0, 0.55, 0.1], rtol=1e-6)
        assert (np.diff(last) < 0).all()
        held = make_schedule(replace(config, hold_fraction=0.5), 60, 30)
        assert [round(float(held(step, 27)), 4) for step in (42, 57)] == [1.0, 0.1]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: ByAccuracy(threshold=0.0), "threshold"),
            (lambda: ByAccuracy(threshold=1.1), "threshold"),
            (lambda: ByAccuracy(checks=0), "checks"),
            (lambda: ByAccuracy(((8, 1), (4, 1))), "growing lengths"),
            (lambda: replace(CONFIG, loss="squared_error"), "need labels"),
            (lambda: replace(CONFIG, max_tokens=0), "max_tokens"),
        ],
    )
    def test_nonsense_is_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_batches_from_the_host_are_refused(self):
        class Host:
            on_host = print

        with pytest.raises(ValueError, match="ahead of time"):
            fit(new_model(0), Host(), CONFIG, key=jax.random.key(0))


def test_stages_end_when_they_are_learned():
    _, result, records = train()
    assert result.status == "finished"
    begins = [b["step"] - 5 for a, b in pairwise(records) if b["stage"] > a["stage"]]
    assert [record["stage"] for record in records] == sorted(record["stage"] for record in records)
    assert records[-1]["stage"] == 3
    assert begins[0] < 60
    assert begins[1] < begins[0] + 60
    assert result.step == begins[1] + 30 < CONFIG.steps
    for begin in begins:
        enough = [r for r in records if begin - 10 < r["step"] <= begin]
        assert [r["sequence_accuracy"] >= 0.97 for r in enough] == [True, True]
    rates = {record["step"]: record["learning_rate"] for record in records}
    assert {rate for step, rate in rates.items() if step <= begins[1]} == {np.float32(0.03)}
    last = [rate for step, rate in rates.items() if step > begins[1]]
    assert last == sorted(last, reverse=True)
    assert last[-1] < 1e-3


def test_what_is_not_learned_moves_on_at_its_most_steps():
    slow = replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e-9))
    _, result, records = train(config=slow)
    assert (result.status, result.step) == ("finished", 150)
    assert {stage: [r["step"] for r in records if r["stage"] == stage][-1] for stage in (1, 2, 3)} \
        == {1: 60, 2: 120, 3: 150}  # fmt: skip
    assert [r["maximum_length"] for r in records if r["step"] in (60, 120, 150)] == [2, 4, 8]


def test_solved_counts_in_the_last_stage_alone():
    config = replace(CONFIG, solved=Solved(threshold=0.5, checks=1))
    _, result, records = train(config=config)
    assert result.status == "solved"
    assert [record["stage"] for record in records].count(3) == 1


@pytest.mark.parametrize("step", [15, 40])
def test_interrupted_or_killed_in_a_stage_it_makes_the_same_decisions(tmp_path, step):
    model, expected, records = train()
    with pytest.raises(KeyboardInterrupt):
        train(recorder=press_at(step), folder=tmp_path)
    resumed, result, rest = train(folder=tmp_path, resume=True)
    assert result[:2] == expected[:2]
    assert timeless(rest) == timeless(r for r in records if r["step"] > step)
    assert_same(resumed, model)
    with Checkpoints(tmp_path) as checkpoints:  # a kill leaves records beyond the last checkpoint
        checkpoints.discard_after(checkpoints.steps()[-2])
        step = checkpoints.steps()[-1]
    again, _, rest = train(folder=tmp_path, resume=True)
    assert timeless(rest) == timeless(r for r in records if r["step"] > step)
    assert_same(again, model)


SLOW = OptimizerConfig(learning_rate=1e-9, warmup_steps=1, final_fraction=0.0)


def test_a_member_is_the_run_alone_whatever_stage_the_others_are_in():
    configs = [CONFIG, replace(CONFIG, optimizer=SLOW), CONFIG]
    dtype = jnp.float64
    group = [new_member(seed, config, dtype) for seed, config in enumerate(configs)]
    told = []
    progress = Recorder()
    results = fit_members(
        group, TASK.sample, progress=progress, ended=lambda i, r: told.append((i, r.step))
    )
    for seed, config in enumerate(configs):
        model, expected, records = train(seed, config, dtype=dtype)
        assert results[seed][:2] == expected[:2]
        assert places(group[seed].trackers[0].records) == places(records)
        np.testing.assert_allclose(
            [r["learning_rate"] for r in group[seed].trackers[0].records],
            [r["learning_rate"] for r in records],
            rtol=1e-6,
        )
        assert_same(group[seed].model, model, 1e-9)
    assert sorted(told) == [(i, result.step) for i, result in enumerate(results)]
    assert max(results[0].step, results[2].step) < results[1].step == 150
    shown = [record["step"] for record in progress.records]
    assert shown == sorted(shown)


def test_members_are_the_same_bits_beside_others_and_resumed(tmp_path):
    """The others are in other stages; a kill leaves members at different steps."""
    whole = [new_member(0), new_member(1, replace(CONFIG, optimizer=SLOW))]
    results = fit_members(whole, TASK.sample)
    beside = [new_member(0), new_member(2)]
    fit_members(beside, TASK.sample)
    assert timeless(beside[0].trackers[0].records) == timeless(whole[0].trackers[0].records)
    assert_same(beside[0].model, whole[0].model)

    def start(press=None):
        return [
            new_member(0, folder=tmp_path / "0"),
            new_member(1, replace(CONFIG, optimizer=SLOW), folder=tmp_path / "1", recorder=press),
        ]

    with pytest.raises(KeyboardInterrupt):
        fit_members(start(press_at(35)), TASK.sample)
    with Checkpoints(tmp_path / "1") as checkpoints:
        checkpoints.discard_after(20)
    resumed = start()
    assert [r[:2] for r in fit_members(resumed, TASK.sample)] == [r[:2] for r in results]
    for one, other in zip(resumed, whole, strict=True):
        assert_same(one.model, other.model)


class TestMaxTokens:
    config = replace(
        CONFIG,
        steps=6,
        steps_per_dispatch=2,
        curriculum=Staged(((4, 2), (8, 2), (32, 2)), fixed=True, smallest_bucket=4),
        max_tokens=40,
    )

    def test_long_batches_have_fewer_sequences(self):
        assert [self.config.batch_of(bucket) for bucket in (2, 4, 8, 16, 64)] == [16, 10, 5, 2, 1]
        assert replace(self.config, max_tokens=None).batch_of(64) == 16
        assert self.config.largest_batch == (5, 8)
        _, _, records = train(config=self.config)
        assert [record["tokens"] for record in records] == [2 * 10 * 4, 2 * 5 * 8, 2 * 1 * 32]
        (member,) = group = [new_member(0, self.config)]
        fit_members(group, TASK.sample, memory_limit=1)
        assert [record["tokens"] for record in member.trackers[0].records] == [80, 80, 64]

    def test_sizes_are_buckets_too(self):
        sizes = replace(self.config, curriculum=Sizes(((8, 2), (4, 4))))
        assert (sizes.curriculum.buckets, sizes.largest_batch) == ((8, 4), (5, 8))
