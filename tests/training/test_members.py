"""Many trainings in one program: each is what it would have been alone."""

import os
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from processes import run_function
from recorder import Recorder
from toy import Parity, ToyModel

from plstm_seq.layers.transition import Factorized
from plstm_seq.models import SequenceModel
from plstm_seq.models.sequence import state_tracking
from plstm_seq.training import (
    Checkpoints,
    JsonlTracker,
    Member,
    NonFiniteLossError,
    OptimizerConfig,
    Solved,
    Staged,
    TrainingConfig,
    Uniform,
    fit,
    fit_members,
    layout,
    read_jsonl,
)
from plstm_seq.training import engine as module
from plstm_seq.training.leaves import named_leaves

TASK = Parity()
CONFIG = TrainingConfig(
    steps=12,
    batch_size=4,
    steps_per_dispatch=4,
    checkpoint_every=6,
    optimizer=OptimizerConfig(warmup_steps=3),
    curriculum=Staged(stages=((3, 5), (6, 7)), smallest_bucket=8),
    solved=None,
)


def configured(config=CONFIG, **values):
    return replace(config, optimizer=replace(config.optimizer, **values))


def member(seed, config=CONFIG, folder=None, trackers=(), **options):
    model = ToyModel(width=4, rngs=nnx.Rngs(seed), **options)
    return Member(model, config, jax.random.key(seed), folder, trackers)


def alone(seed, config=CONFIG, **options):
    model = ToyModel(width=4, rngs=nnx.Rngs(seed), **options)
    result = fit(model, TASK.sample, config, key=jax.random.key(seed))
    return model, result


def parameters(model):
    return {name: np.asarray(leaf) for name, leaf in named_leaves(nnx.state(model)).items()}


def assert_close(actual, expected, tolerance):
    for name, value in parameters(expected).items():
        error = np.abs(parameters(actual)[name] - value).max()
        assert error <= tolerance * max(1.0, np.abs(value).max()), f"{name}: {error}"


@pytest.fixture(autouse=True)
def ctrl_c_means_interrupt():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


RATES = (3e-3, 1e-2, 1e-3)


def sequence_model(seed, dtype):
    config = state_tracking(Factorized(dim=2), width=8, num_heads=1, DK=2, DV=2)
    mixer = replace(config.mixer, implementation="recurrent")
    return SequenceModel(2, replace(config, mixer=mixer), param_dtype=dtype, rngs=nnx.Rngs(seed))


@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance"), [(jnp.float64, 50, 1e-9), (jnp.float32, 1, 1e-6)]
)
def test_a_member_is_the_run_alone(dtype, steps, tolerance):
    """Seeds, learning rates and weight decays differ; all parameters agree."""
    base = replace(CONFIG, steps=steps, curriculum=Uniform(2, 6), steps_per_dispatch=25)
    configs = [
        configured(base, learning_rate=rate, weight_decay=decay, warmup_steps=1)
        for rate, decay in zip(RATES, (0.0, 0.1, 0.0), strict=True)
    ]
    group = [
        Member(sequence_model(seed, dtype), config, jax.random.key(seed))
        for seed, config in enumerate(configs)
    ]
    fit_members(group, TASK.sample)
    for seed, config in enumerate(configs):
        model = sequence_model(seed, dtype)
        fit(model, TASK.sample, config, key=jax.random.key(seed))
        assert_close(group[seed].model, model, tolerance)
    assert not np.allclose(*(parameters(group[i].model)["lm_head"] for i in (0, 1)))


def test_records_and_checkpoints_of_each(tmp_path):
    folders = [tmp_path / str(seed) for seed in range(2)]
    progress = Recorder()
    group = [
        member(seed, folder=f / "checkpoints", trackers=[JsonlTracker(f / "metrics.jsonl")])
        for seed, f in enumerate(folders)
    ]
    results = fit_members(group, TASK.sample, progress=progress)
    assert [(r.status, r.step, r.members) for r in results] == [("finished", 12, 2)] * 2
    assert all(r.memory_bytes > 0 for r in results)
    for seed, folder in enumerate(folders):
        records = read_jsonl(folder / "metrics.jsonl")
        assert [r["step"] for r in records] == [4, 5, 6, 8, 12]
        expected = alone(seed)[1].record
        assert records[-1]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert records[-1]["maximum_length"] == 6
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            assert checkpoints.steps() == [0, 6, 12]
    assert [r["step"] for r in progress.records] == [4, 5, 6, 8, 12]
    assert progress.records[0]["members"] == 2
    first = [read_jsonl(folder / "metrics.jsonl")[0] for folder in folders]
    assert progress.records[0]["seconds"] == sum(record["seconds"] for record in first)
    assert first[0]["tokens_per_second"] == first[0]["tokens"] / first[0]["seconds"]
    assert progress.statuses == ["finished"]


def test_an_ended_group_is_not_touched(tmp_path):
    config = replace(CONFIG, steps=6)
    fit_members([member(0, config, tmp_path)], TASK.sample)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = member(5, config, tmp_path, trackers=[watched := Recorder()])
    (result,) = fit_members([again], TASK.sample)
    assert (result.status, result.step) == ("finished", 6)
    assert watched.starts == []
    assert_close(again.model, alone(0, config)[0], 1e-5)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_those_behind_catch_up(tmp_path):
    """A kill between two saves leaves members at different steps."""
    whole = [member(seed) for seed in range(2)]
    fit_members(whole, TASK.sample)
    group = [member(seed, folder=tmp_path / str(seed)) for seed in range(2)]
    fit_members(group, TASK.sample)
    with Checkpoints(tmp_path / "1") as checkpoints:
        checkpoints.discard_after(0)
    resumed = [
        member(seed, folder=tmp_path / str(seed), trackers=[Recorder()]) for seed in range(2)
    ]
    with Checkpoints(tmp_path / "0") as checkpoints:
        checkpoints.discard_after(6)
    fit_members(resumed, TASK.sample)
    assert [m.trackers[0].starts[0][0] for m in resumed] == [6, 0]
    assert [r["step"] for r in resumed[0].trackers[0].records] == [8, 12]
    for one, other in zip(resumed, whole, strict=True):
        assert_close(one.model, other.model, 0.0)


def test_ctrl_c_saves_all(tmp_path):
    def press(record):
        if record["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    watches = [Recorder(press), Recorder()]
    group = [member(s, folder=tmp_path / str(s), trackers=[w]) for s, w in enumerate(watches)]
    with pytest.raises(KeyboardInterrupt, match="step 5"):
        fit_members(group, TASK.sample)
    assert [m.trackers[0].statuses for m in group] == [["interrupted"]] * 2
    for seed in range(2):
        with Checkpoints(tmp_path / str(seed), read_only=True) as checkpoints:
            assert checkpoints.steps()[-1] == 5
    resumed = [member(s, folder=tmp_path / str(s)) for s in range(2)]
    fit_members(resumed, TASK.sample)
    whole = [member(s) for s in range(2)]
    fit_members(whole, TASK.sample)
    for one, other in zip(resumed, whole, strict=True):
        assert_close(one.model, other.model, 0.0)


def test_a_diverged_member_does_not_stop_the_others(tmp_path):
    group = [member(s, folder=tmp_path / str(s), trackers=[Recorder()]) for s in range(3)]
    broken = group[1].model.head.kernel
    broken[...] = jnp.full_like(broken[...], jnp.inf)
    results = fit_members(group, TASK.sample)
    assert [r.status for r in results] == ["finished", "diverged", "finished"]
    assert isinstance(results[1].error, NonFiniteLossError)
    assert results[1].error.step == 1
    assert results[1].error.checkpoint == 0
    assert [m.trackers[0].statuses for m in group] == [["finished"], ["diverged"], ["finished"]]
    assert_close(group[2].model, alone(2)[0], 1e-5)
    assert np.isinf(parameters(group[1].model)["head.kernel"]).all()


def test_solved_members_stay_and_leave_the_program(monkeypatch):
    """Compacted, the others go on as before."""
    monkeypatch.setattr(module, "_WORTH", 0.0)
    always = Solved(metric="token_accuracy", threshold=0.0, checks=2)
    never = replace(always, threshold=1.1)
    config = replace(CONFIG, steps=24, curriculum=Uniform(2, 6), solved=never)
    group = [member(seed, config) for seed in range(4)]
    widths = []
    load = module._Together._load

    def watched(together, rows):
        widths.append(rows)
        load(together, rows)

    monkeypatch.setattr(module._Together, "_load", watched)
    solves = {0: 4, 1: 8, 2: 8}

    def is_solved(ledger):
        index = next(i for i, m in enumerate(group) if m.trackers == ledger.tracker._trackers)
        return ledger.step >= solves.get(index, 99)

    group = [replace(m, trackers=(Recorder(),)) for m in group]
    monkeypatch.setattr(module.Ledger, "is_solved", property(is_solved))
    told = []
    results = fit_members(group, TASK.sample, ended=lambda i, r: told.append((i, r.status, r.step)))
    assert told == [(0, "solved", 4), (1, "solved", 8), (2, "solved", 8), (3, "finished", 24)]
    assert [m.trackers[0].statuses for m in group] == [["solved"]] * 3 + [["finished"]]
    assert [(r.status, r.step) for r in results] == [
        ("solved", 4),
        ("solved", 8),
        ("solved", 8),
        ("finished", 24),
    ]
    assert widths == [4, 1]
    monkeypatch.undo()
    assert_close(group[3].model, alone(3, config)[0], 1e-4)
    assert_close(
        group[0].model, alone(0, replace(config, solved=replace(always, checks=1)))[0], 1e-5
    )


def test_more_members_than_memory_are_trained_in_parts():
    everything = fit_members([member(seed) for seed in range(4)], TASK.sample)
    memory = everything[0].memory_bytes
    group = [member(seed) for seed in range(4)]
    results = fit_members(group, TASK.sample, memory_limit=int(0.6 * memory))
    assert [(r.status, r.members) for r in results] == [("finished", 2)] * 4
    assert results[0].memory_bytes < 0.6 * memory
    assert_close(group[3].model, alone(3)[0], 1e-5)


class TestRefuses:
    def test_another_training(self):
        group = [member(0), member(1, configured(b1=0.5))]
        with pytest.raises(ValueError, match="member 1 trains otherwise"):
            fit_members(group, TASK.sample)

    def test_another_model(self):
        other = Member(ToyModel(width=5, rngs=nnx.Rngs(0)), CONFIG, jax.random.key(0))
        with pytest.raises(ValueError, match="member 1 computes otherwise"):
            fit_members([member(0), other], TASK.sample)

    def test_validation(self):
        config = replace(CONFIG, solved=Solved(metric="validation_x"))
        with pytest.raises(ValueError, match="not validated"):
            fit_members([member(0, config)], TASK.sample)

    def test_one_folder_for_two(self, tmp_path):
        with pytest.raises(ValueError, match="same folder"):
            fit_members([member(0, folder=tmp_path), member(1, folder=tmp_path)], TASK.sample)

    def test_an_old_key(self):
        old = replace(member(0), key=jax.random.PRNGKey(0))
        with pytest.raises(TypeError, match="typed key"):
            fit_members([old], TASK.sample)


def on_two_devices():
    task = Parity()
    config = TrainingConfig(
        steps=6, batch_size=4, steps_per_dispatch=3, curriculum=Uniform(2, 6), solved=None
    )
    texts = []
    compile_program = layout.compile_program

    def watched(key):
        program = compile_program(key)
        texts.append(program.as_text())
        return program

    layout.compile_program = watched
    models = [ToyModel(width=4, rngs=nnx.Rngs(seed)) for seed in range(3)]
    group = [Member(m, config, jax.random.key(s)) for s, m in enumerate(models)]
    results = fit_members(group, task.sample)
    assert [r.status for r in results] == ["finished"] * 3
    for word in ("all-gather", "all-reduce", "collective-permute", "all-to-all"):
        assert word not in texts[-1], word
    for seed, model in enumerate(models):
        alone = ToyModel(width=4, rngs=nnx.Rngs(seed))
        fit(alone, task.sample, config, key=jax.random.key(seed))
        states = (jax.tree.leaves(nnx.state(m)) for m in (model, alone))
        for a, b in zip(*states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_members_over_devices():
    """Three members on two devices, one row of padding; nothing is sent between them."""
    run_function(on_two_devices, devices=2)
