import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resumable_run
from flax import nnx
from recorder import Recorder
from resumable_run import CONFIG
from toy import Parity, ToyModel

from plstm_seq.training import (
    TIMING_FIELDS,
    Checkpoints,
    NonFiniteLossError,
    OptimizerConfig,
    Solved,
    Staged,
    TrainingConfig,
    Uniform,
    fit,
    load_model,
    read_jsonl,
)
from plstm_seq.training.leaves import named_leaves

REPOSITORY = Path(__file__).parents[2]


def press_ctrl_c_at(step):
    def then(record):
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return Recorder(then)


@pytest.fixture(autouse=True)
def ctrl_c_means_interrupt():
    # A shell's background job ignores SIGINT, and so would these tests in it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


def parameters(model):
    return {name: np.asarray(leaf) for name, leaf in named_leaves(nnx.state(model)).items()}


def assert_same_run(folder, model, expected):
    expected_folder, expected_model = expected
    for name, value in parameters(expected_model).items():
        np.testing.assert_array_equal(parameters(model)[name], value, err_msg=name)

    def records(folder):
        return [
            {name: value for name, value in record.items() if name not in TIMING_FIELDS}
            for record in read_jsonl(folder / "metrics.jsonl")
        ]

    assert records(folder) == records(expected_folder)
    assert records(folder)[-1]["step"] == CONFIG.steps


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, resumable_run.train(folder)[0]


def test_ctrl_c_saves_and_the_resumed_run_ends_bit_identical(tmp_path, uninterrupted):
    recorder = press_ctrl_c_at(16)
    with pytest.raises(KeyboardInterrupt, match="step 16"):
        resumable_run.train(tmp_path, recorder)
    assert recorder.statuses == ["interrupted"]
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 16
    recorder = Recorder()
    model, result = resumable_run.train(tmp_path, recorder, resume=True)
    assert recorder.starts == [(16, 40)]
    assert result[:2] == ("finished", 40)
    assert_same_run(tmp_path, model, uninterrupted)


def test_killed_run_resumes_and_ends_bit_identical(tmp_path, uninterrupted):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "support")]),
    }
    process = subprocess.Popen([sys.executable, resumable_run.__file__, tmp_path], env=environment)
    try:
        while not (tmp_path / "checkpoints" / "30").is_dir():
            assert process.poll() is None
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    # Records may be ahead of the checkpoint, and the last line may be torn.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 32, "lo')
    model, _ = resumable_run.train(tmp_path, resume=True)
    assert_same_run(tmp_path, model, uninterrupted)


def test_resume_steps_over_a_corrupt_checkpoint(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        resumable_run.train(tmp_path, press_ctrl_c_at(32))
    (tmp_path / "checkpoints" / "32" / "meta" / "metadata").write_text("{")
    with pytest.warns(RuntimeWarning, match="32 is corrupt"):
        model, _ = resumable_run.train(tmp_path, resume=True)
    assert_same_run(tmp_path, model, uninterrupted)


def test_resuming_a_finished_run_trains_no_further(uninterrupted):
    folder, expected = uninterrupted
    recorder = Recorder()
    model, result = resumable_run.train(folder, recorder, resume=True)
    assert result[:2] == ("finished", 40)
    assert result.record == read_jsonl(folder / "metrics.jsonl")[-1]
    assert recorder.records == []
    assert_same_run(folder, model, (folder, expected))


def test_a_folder_with_checkpoints_is_not_overwritten(uninterrupted):
    with pytest.raises(FileExistsError, match="resume=True"):
        resumable_run.train(uninterrupted[0])


SOLVABLE = TrainingConfig(
    steps=1000,
    batch_size=16,
    steps_per_dispatch=10,
    optimizer=OptimizerConfig(learning_rate=0.03, warmup_steps=1),
    curriculum=Staged(stages=((2, 100), (4, 1)), smallest_bucket=4),
    solved=Solved(threshold=0.99, checks=2),
)


TASK = Parity()  # one task: programs are compiled for its `sample`


def train(config=SOLVABLE, **options):
    model = ToyModel(width=8, rngs=nnx.Rngs(0))
    recorder = Recorder()
    result = fit(model, TASK.sample, config, key=jax.random.key(1), trackers=[recorder], **options)
    return model, result, recorder


def test_solved_stops_after_enough_good_records_at_the_longest_lengths(tmp_path):
    model, result, recorder = train(folder=tmp_path)
    accuracies = [record["sequence_accuracy"] for record in recorder.records]
    stages = [record["maximum_length"] for record in recorder.records]
    good = [a >= 0.99 and length == 4 for a, length in zip(accuracies, stages, strict=True)]
    assert accuracies[9] >= 0.99  # solved in the first stage already, which does not count
    assert stages == [2] * 10 + [4] * (len(stages) - 10)
    assert good[-2:] == [True, True]
    assert not any(a and b for a, b in pairwise(good[:-1]))
    assert result[:3] == ("solved", recorder.records[-1]["step"], recorder.records[-1])
    assert recorder.statuses == ["solved"]
    inputs = Parity().draw(jax.random.key(2), 8, 4)
    np.testing.assert_array_equal(model(inputs).argmax(-1), np.cumsum(inputs, axis=1) % 2)
    restored = ToyModel(width=8, rngs=nnx.Rngs(3))
    assert load_model(restored, tmp_path).step == result.step
    np.testing.assert_array_equal(restored(inputs), model(inputs))


def test_good_records_before_an_interruption_still_count(tmp_path):
    _, expected, _ = train()
    model = ToyModel(width=8, rngs=nnx.Rngs(0))
    options = {"key": jax.random.key(1), "folder": tmp_path}
    one_check_missing = press_ctrl_c_at(expected.step - SOLVABLE.steps_per_dispatch)
    with pytest.raises(KeyboardInterrupt):
        fit(model, TASK.sample, SOLVABLE, trackers=[one_check_missing], **options)
    result = fit(model, TASK.sample, SOLVABLE, resume=True, **options)
    assert result[:2] == ("solved", expected.step)


def test_validation_is_recorded_and_may_decide(tmp_path):
    config = TrainingConfig(
        **{
            **vars(SOLVABLE),
            "curriculum": Uniform(1, 4),
            "validate_every": 15,
            "solved": Solved("validation_score", 2.5, checks=1),
        }
    )
    scores = iter([1.0, 2.0, 3.0])
    shapes = []

    def validate(model):
        shapes.append(model(jnp.zeros((1, 2), jnp.int32)).shape)
        return {"score": next(scores)}

    _, result, recorder = train(config, validate=validate)
    assert result[:2] == ("solved", 45)
    assert shapes == [(1, 2, 2)] * 3
    assert [
        (record["step"], record["validation_score"])
        for record in recorder.records
        if "validation_score" in record
    ] == [(15, 1.0), (30, 2.0), (45, 3.0)]
    with pytest.raises(ValueError, match="no validate was given"):
        train(config)


def test_records_add_up(uninterrupted):
    records = read_jsonl(uninterrupted[0] / "metrics.jsonl")
    # Every multiple of steps_per_dispatch and checkpoint_every, and the stage's end at 15.
    assert [record["step"] for record in records] == [
        4, 8, 10, 12, 15, 16, 20, 24, 28, 30, 32, 36, 40,
    ]  # fmt: skip
    for record in records:
        assert record["tokens_per_second"] == record["tokens"] / record["seconds"]
        assert 0 <= record["sequence_accuracy"] <= record["token_accuracy"] <= 1


def test_trackers_are_closed_once_whatever_that_raises():
    class Full(Recorder):
        def close(self, status):
            super().close(status)
            raise OSError("no space left")

    config = TrainingConfig(steps=4, batch_size=4, steps_per_dispatch=4, curriculum=Uniform(1, 4))
    recorder, key = Full(), jax.random.key(0)
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    with pytest.raises(OSError, match="no space left"):
        fit(model, Parity().sample, config, key=key, trackers=[recorder])
    assert recorder.statuses == ["finished"]


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    poisoned = 23

    class Poisoned(ToyModel):
        """Its output is infinite once its counter passes a number of calls."""

        def __init__(self, **options):
            super().__init__(**options)
            self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

        def __call__(self, tokens, **options):
            self.calls[...] = self.calls[...] + 1
            return super().__call__(tokens, **options) / (self.calls[...] < poisoned)

    config = TrainingConfig(
        steps=40, batch_size=4, steps_per_dispatch=5, checkpoint_every=10, curriculum=Uniform(1, 4)
    )
    model = Poisoned(width=4, rngs=nnx.Rngs(0))
    recorder = Recorder()
    with pytest.raises(NonFiniteLossError, match=r"step 23: loss .*step 20 is kept") as caught:
        fit(
            model,
            Parity().sample,
            config,
            key=jax.random.key(0),
            folder=tmp_path,
            trackers=[recorder],
        )
    assert (caught.value.step, caught.value.checkpoint) == (23, 20)
    assert recorder.records[-1]["step"] == 20
    assert recorder.statuses == ["failed"]
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 20
    assert int(model.calls[...]) == 20
    assert all(np.isfinite(value).all() for value in parameters(model).values())


def test_programs_are_compiled_for_each_bucket_once_and_shared_by_seeds_and_rates(monkeypatch):
    traces = []

    class Counted(ToyModel):
        def __call__(self, tokens, **options):
            traces.append(tokens.shape)
            return super().__call__(tokens, **options)

    stages = Staged(stages=((2, 4), (3, 4), (4, 4), (9, 1)), smallest_bucket=4)
    for seed, rate in ((0, 1e-3), (1, 1e-2)):
        config = TrainingConfig(
            steps=16,
            batch_size=2,
            steps_per_dispatch=3,
            curriculum=stages,
            optimizer=OptimizerConfig(learning_rate=rate),
        )
        model = Counted(width=4, rngs=nnx.Rngs(seed))
        recorder = Recorder()
        fit(model, TASK.sample, config, key=jax.random.key(seed), trackers=[recorder])
    # Twice each: once for the shapes of the metrics, once for the program itself.
    assert sorted(traces) == [(2, 4), (2, 4), (2, 9), (2, 9)]
    assert recorder.records[-1]["learning_rate"] < 1e-2


def test_key_must_be_typed():
    with pytest.raises(TypeError, match=r"key: .*, expected a typed key"):
        fit(ToyModel(rngs=nnx.Rngs(0)), Parity().sample, key=jax.random.PRNGKey(0))


def test_training_is_a_function_of_the_key(uninterrupted):
    model = ToyModel(width=4, rngs=nnx.Rngs(0))
    fit(model, resumable_run.TASK.sample, CONFIG, key=jax.random.key(1))
    same = [
        np.array_equal(a, b)
        for a, b in zip(
            parameters(model).values(), parameters(uninterrupted[1]).values(), strict=True
        )
    ]
    assert not any(same)
