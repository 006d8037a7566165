"""`--tracker` of a sweep reaches every member, in this process and in workers."""

import sys
from types import ModuleType

import pytest
from small_sweep import small_sweep

from experiments import running
from experiments.config import ConfigError
from experiments.sweeps import create_sweep, group, worker
from experiments.sweeps.launch import ProcessesExecutor, make_executor
from plstm_seq.training import FitResult


@pytest.fixture
def tracked(monkeypatch):
    """Nothing is trained; the trackers that members would have."""
    made = []
    monkeypatch.setattr(running, "WandbTracker", lambda folder, **options: (folder, options))
    monkeypatch.setattr(running, "require_wandb", lambda: None)

    def train_members(runs, trackers, **_):
        made.extend(map(trackers, runs))
        return [FitResult("finished", 6, {}) for _ in runs]

    monkeypatch.setattr(group, "train_members", train_members)
    monkeypatch.setattr(group, "_evaluate", lambda *_: None)
    monkeypatch.setattr(worker, "gather", lambda _: None)
    return made


@pytest.mark.parametrize("names", [(), ("wandb",)], ids=["none", "wandb"])
def test_members_are_tracked_under_their_sweep(tmp_path, tracked, names):
    folder = create_sweep(small_sweep(), tmp_path / "mine")
    make_executor("local", progress=False, trackers=names).run(folder.path, ["g00"])
    worker.work(str(folder.path), "g01", *names)
    assert len(tracked) == 4
    for trackers, member in zip(tracked, folder.plan.members, strict=True):
        assert len(trackers) == len(names)
        for of, options in trackers:
            assert of == folder.run(member).folder
            assert options["group"] == "mine"
            assert options["config"]["seed"] == member.config.seed


def test_executors_take_trackers_or_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="needs the package wandb"):
        make_executor("processes", trackers=("wandb",))
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    assert isinstance(make_executor("processes", trackers=("wandb",)), ProcessesExecutor)
    with pytest.raises(ConfigError, match="wandb is the one to choose"):
        make_executor("local", trackers=("tensorboard",))
    with pytest.raises(ConfigError, match="not slurm"):
        make_executor("slurm", trackers=("wandb",))
