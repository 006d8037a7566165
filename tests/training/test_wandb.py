"""The wandb tracker, against a stand-in for wandb: what it is called with, and when."""

import json
import sys
from types import ModuleType

import pytest

from plstm_seq.training import WandbTracker


class FakeRun:
    """A run of wandb; like the real one it refuses to step back."""

    def __init__(self, options):
        self.options, self.rows, self.summary, self.exit_code = options, [], {}, None

    def log(self, row, *, step):
        assert self.exit_code is None, "the run is closed"
        assert step > max((before for before, _ in self.rows), default=0), "steps must ascend"
        self.rows.append((step, row))

    def finish(self, *, exit_code):
        self.exit_code = exit_code


class FakeWandb(ModuleType):
    def __init__(self):
        super().__init__("wandb")
        self.runs = []

    def init(self, **options):
        self.runs.append(FakeRun(options))
        return self.runs[-1]

    def rows(self, run_id):
        return [row for run in self.runs if run.options["id"] == run_id for row in run.rows]


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def record(step):
    return {"step": step, "loss": 1 / step, "tokens": 10 * step}


def log(tracker, *steps, start=0, status="finished"):
    tracker.start(start, 100)
    for step in steps:
        tracker.log(record(step))
    tracker.close(status)


def test_records_are_logged_at_their_steps_with_what_the_run_was_made_from(wandb, tmp_path):
    folder = tmp_path / "JT=2,seed=0"
    config = {"seed": 0, "model": {"width": 8}}
    log(WandbTracker(folder, group="sweep", config=config, mode="offline"), 10, 20, status="solved")
    (run,) = wandb.runs
    assert run.rows == [(step, {"loss": 1 / step, "tokens": 10 * step}) for step in (10, 20)]
    assert run.summary == {"status": "solved"}
    assert run.exit_code == 0
    assert run.options == {
        "project": "plstm-seq",
        "id": json.loads((folder / "wandb.json").read_text())["id"],
        "resume": "allow",
        "reinit": "create_new",
        "dir": str(folder),
        "name": "JT=2,seed=0",
        "group": "sweep",
        "config": config,
        "mode": "offline",
    }


@pytest.mark.parametrize("checkpoint", [0, 10, 20, 30])
def test_a_resumed_run_is_the_same_run_and_no_step_comes_twice(wandb, tmp_path, checkpoint):
    killed = WandbTracker(tmp_path)
    killed.start(0, 100)
    for step in (10, 20, 30):
        killed.log(record(step))
    log(WandbTracker(tmp_path), *range(checkpoint + 10, 60, 10), start=checkpoint)
    first, second = wandb.runs
    assert first.options["id"] == second.options["id"]
    steps = [step for step, _ in wandb.rows(first.options["id"])]
    assert steps == [10, 20, 30, 40, 50]


def test_runs_side_by_side_are_runs_of_their_own(wandb, tmp_path):
    trackers = [WandbTracker(tmp_path / name) for name in "ab"]
    for tracker in trackers:
        tracker.start(0, 100)
    for tracker in trackers:
        tracker.log(record(10))
    for tracker, status in zip(trackers, ("finished", "diverged"), strict=True):
        tracker.close(status)
    assert len({run.options["id"] for run in wandb.runs}) == 2
    assert [len(run.rows) for run in wandb.runs] == [1, 1]
    assert [run.exit_code for run in wandb.runs] == [0, 1]


def test_nothing_happens_before_start(wandb, tmp_path):
    tracker = WandbTracker(tmp_path / "run")
    with pytest.raises(RuntimeError, match="log before start"):
        tracker.log(record(10))
    tracker.close("failed")
    assert not wandb.runs
    assert not (tmp_path / "run").exists()


def test_without_wandb_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'plstm-seq\[wandb\]'"):
        WandbTracker(tmp_path)
