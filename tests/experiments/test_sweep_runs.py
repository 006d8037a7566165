"""A sweep from its value to its table: once, again, damaged, killed, and by two processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars
import pytest
from polars.testing import assert_frame_equal
from small_sweep import small_sweep
from tolerances import AGREEMENT

from experiments import RunError, load_run, override, train
from experiments.files import holder, locked
from experiments.run import RunStatus
from experiments.sweeps import Sweep, create_sweep, open_sweep, run_sweep, status, vary
from experiments.sweeps.folder import ROOT
from plstm_seq.training import FitResult, NonFiniteLossError, read_jsonl
from plstm_seq.training.records import TIMING_FIELDS

REPOSITORY = Path(__file__).parents[2]
PROCESS = REPOSITORY / "tests" / "support" / "sweep_process.py"
TIMING = {"seconds", "cost.tokens_per_second"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts processes that work on a sweep; what one of them compiles, the others read."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(PROCESS.parent)]),
    }

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, str(PROCESS), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def end(process):
    """How a process ended, and what it said."""
    errors = process.communicate(timeout=600)[1]
    return process.returncode, errors


def table(folder):
    """The results, without what depends on the clock or on who shared a program."""
    frame = polars.read_parquet(folder / "results.parquet")
    # A checkpoint's identity is of its files, which hold when they were written.
    other = {"cost.members_in_program", "cost.peak_memory_bytes", "checkpoint"}
    return frame.drop([name for name in frame.columns if name in TIMING | other])


def records(folder):
    """The records of every member without the clock's fields, by member, number and name."""
    return {
        (path.parent.name, number, name): value
        for path in sorted((folder / "members").glob("*/metrics.jsonl"))
        for number, record in enumerate(read_jsonl(path))
        for name, value in record.items()
        if name not in TIMING_FIELDS
    }


def same(expected):
    """A member resumed without the others has another program, which may round otherwise."""
    return pytest.approx(expected, rel=AGREEMENT["float32"])


def written(folder):
    """When every file of the members was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "members").rglob("*")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, start):
    folder = create_sweep(small_sweep(), tmp_path_factory.mktemp("sweeps") / "whole").path
    code, errors = end(start(folder))
    assert code == 0, errors
    return folder


def test_a_sweep_is_a_folder(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    assert names == {"sweep.yaml", "members", "groups", "results.parquet"}
    run = load_run(undisturbed / "members" / "JT=2,seed=1")
    assert run.config.seed == 1
    assert run.status == RunStatus("finished", 6)
    assert [record["step"] for record in run.metrics] == [2, 3, 4, 6]
    assert run.cost is not None
    assert run.cost["members_in_program"] == 2
    assert run.cost["tokens_per_second"] > 0
    assert run.cost["peak_memory_bytes"] > 0
    frame = polars.read_parquet(undisturbed / "results.parquet")
    assert frame["member"].n_unique() == 4
    rows = status(undisturbed)
    assert [row.member for row in rows] == [
        "JT=1,seed=0",
        "JT=1,seed=1",
        "JT=2,seed=0",
        "JT=2,seed=1",
    ]
    assert {(row.status, row.step, row.steps, row.evaluated) for row in rows} == {
        ("finished", 6, 6, True)
    }


def test_what_has_ended_is_not_rerun(undisturbed, monkeypatch):
    before = written(undisturbed)
    assert create_sweep(small_sweep(), undisturbed).path == undisturbed
    run_sweep(undisturbed, progress=False)
    assert written(undisturbed) == before
    # A missing evaluation is made up for, of that member alone.
    missing = undisturbed / "members" / "JT=2,seed=0" / "evaluation.parquet"
    expected = polars.read_parquet(missing)
    missing.unlink()
    run_sweep(undisturbed, progress=False)
    after = written(undisturbed)
    assert {path for path in before if after[path] != before[path]} <= {missing, missing.parent}
    assert_frame_equal(polars.read_parquet(missing), expected)


def test_a_corrupt_checkpoint_falls_back_with_a_warning(undisturbed, start):
    expected = records(undisturbed)
    member = undisturbed / "members" / "JT=2,seed=1"
    member.joinpath("status.json").unlink()
    last = max(int(path.name) for path in (member / "checkpoints").glob("[0-9]*"))
    assert last == 6
    for file in (member / "checkpoints" / str(last) / "model").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    code, errors = end(start(undisturbed))
    assert code == 0, errors
    assert re.search("RuntimeWarning: checkpoint .* is corrupt .* trying the one before", errors)
    assert records(undisturbed) == same(expected)
    assert load_run(member).status == RunStatus("finished", 6)


@pytest.mark.slow
def test_killed_at_several_moments_and_resumed_to_the_same_table(undisturbed, start, tmp_path):
    folder = create_sweep(small_sweep(), tmp_path / "killed").path
    for moment in ("member", "record", "evaluation"):
        code, errors = end(start(folder, moment))
        assert code == -signal.SIGKILL, errors
        states = {row.status for row in status(folder)}
        assert "running" not in states
        assert states <= {"waiting", "stopped", "finished"}
    code, errors = end(start(folder))
    assert code == 0, errors
    assert records(folder) == same(records(undisturbed))
    assert_frame_equal(table(folder), table(undisturbed))


@pytest.mark.slow
def test_two_processes_share_the_groups(undisturbed, start, tmp_path):
    folder = create_sweep(small_sweep(), tmp_path / "shared").path
    processes = [start(folder, "one", "two"), start(folder, "two", "one")]
    codes, errors = zip(*map(end, processes), strict=True)
    assert codes == (0, 0), errors
    for group in ("g00", "g01"):
        assert sum(f"{group}: training 2 members" in text for text in errors) == 1
        assert sum(f"{group}: evaluating 2 members" in text for text in errors) == 1
    assert any("g00: process" in text and "works on it; skipped" in text for text in errors)
    assert records(folder) == same(records(undisturbed))
    assert_frame_equal(table(folder), table(undisturbed))


def test_a_group_that_another_process_works_on_is_skipped(tmp_path, capsys):
    folder = create_sweep(small_sweep(), tmp_path / "held")
    with folder.lock("g00") as first, folder.lock("g01") as second:
        assert first
        assert second
        run_sweep(folder.path)
        assert {row.status for row in status(folder.path)} == {"running"}
        assert f"g00: process {os.getpid()} on" in capsys.readouterr().err
    assert not (folder.path / "members").exists()
    assert {row.status for row in status(folder.path)} == {"waiting"}


def test_locks(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None
    with locked(path) as mine:
        assert mine
        with locked(path) as again:
            assert not again
        assert str(os.getpid()) in (holder(path) or "")
    assert holder(path) is None


def test_a_name_stands_for_one_sweep(undisturbed, tmp_path, monkeypatch):
    other = Sweep(small_sweep().base, tuple(vary("seed", [0, 1, 2])))
    with pytest.raises(RunError, match="is another sweep: take another --name, or continue"):
        create_sweep(other, undisturbed)
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "file").touch()
    with pytest.raises(RunError, match="is not a sweep and not empty: take another name"):
        create_sweep(other, tmp_path / "thing")
    with pytest.raises(RunError, match="is a file: take another name"):
        create_sweep(other, tmp_path / "thing" / "file")
    monkeypatch.chdir(tmp_path)
    assert create_sweep(other).path == ROOT / "parity-1"
    assert create_sweep(other).path == ROOT / "parity-2"
    assert open_sweep("parity-1").sweep == other
    with pytest.raises(RunError, match=r"no sweep at 'parity-3'.*nearest: parity"):
        open_sweep("parity-3")


def test_a_member_folder_of_another_config_is_left_alone(tmp_path):
    folder = create_sweep(small_sweep(), tmp_path / "mixed")
    first, second = folder.plan.members[:2]
    folder.create_run(first)
    folder.run(second).folder.mkdir(parents=True)
    for name in ("config.json", "config.yaml"):
        (folder.run(first).folder / name).rename(folder.run(second).folder / name)
    with pytest.raises(RunError, match="holds another config than belongs there"):
        folder.create_run(second)


def test_a_failing_group_does_not_stop_the_others(tmp_path, monkeypatch):
    from experiments.sweeps import group

    def train_members(runs, **_):
        if runs[0].config.model.mixer.transition.dim == 1:
            raise MemoryError("not enough")
        trained.append(len(runs))
        return [FitResult("finished", 6, {}) for _ in runs]

    trained = []
    monkeypatch.setattr(group, "train_members", train_members)
    monkeypatch.setattr(group, "evaluate", lambda _: SimpleNamespace(notes=()))
    folder = create_sweep(small_sweep(), tmp_path / "failing").path
    with pytest.raises(RunError, match=r"1 of 2 groups failed: g00: out of memory \(not enough\)"):
        run_sweep(folder, progress=False)
    assert trained == [2]
    assert "MemoryError: not enough" in (folder / "groups" / "g00.log").read_text()


def test_status_and_cost_of_a_single_run(tmp_path):
    config = override(small_sweep().base, ["steps=2", "warmup_steps=0", "logit_soft_cap=null"])
    run = train(config, tmp_path / "single", progress=False)
    assert run.status == RunStatus("finished", 2)
    assert json.loads(run.cost_path.read_text())["members_in_program"] == 1
    huge = override(config, ["learning_rate=1e30"])
    with pytest.raises(NonFiniteLossError):
        train(huge, tmp_path / "huge", progress=False)
    ended = load_run(tmp_path / "huge").status
    assert ended is not None
    assert ended.ended
    assert ended.status == "diverged"
    assert "gradient norm" in (ended.error or "")
