"""`sweep`, `status` and `resume`: what they print, their exit codes, and that they stop cleanly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import SMALL
from small_sweep import small_sweep
from typer.testing import CliRunner

import experiments.cli
from experiments.sweeps import create_sweep, launch, status
from experiments.sweeps.executors import GroupsFailedError
from experiments.sweeps.launch import LocalExecutor, ProcessesExecutor, make_executor
from experiments.sweeps.sweep import to_yaml

TINY = (*SMALL, "transition=diagonal", "convolution=null")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(experiments.cli.app, arguments)


@pytest.fixture
def worked_on(monkeypatch):
    """Nothing is trained; the groups that would be."""
    groups = []
    monkeypatch.setattr(
        launch, "run_group", lambda folder, group, **_: groups.append((folder.path.name, group))
    )
    return groups


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paritty", "seed=0..1"], "nearest: parity"),
        (["parity", "sead=0..1"], "unknown field 'sead'; nearest: seed"),
        (["parity", "seed=7..0"], "the range 7..0 is empty; write 0..7"),
        (["parity", "seed=1,1"], "members 1 and 2 are the same"),
        (["parity", "seed=0..2", "width=8,16", "--zip", "seed,width"], "seed has 3, width has 2"),
        (
            ["parity", "seed=0..2", "--zip", "seed"],
            "--zip: got 'seed', expected two fields or more",
        ),
        (["seed=0..1"], "a task or --config is needed"),
        (["--config", "none.yaml"], "No such file"),
        (["parity", "seed=0..1", "--executor", "cluster"], "there are local, processes, slurm"),
        (["parity", "seed=0..1", "--max-parallel", "2"], "take --executor processes"),
        (["parity", "seed=0..1", "--max-parallel", "0"], "max-parallel"),
        (["parity", "seed=0..1", "--slurm", "time=3"], "go with --executor slurm, not local"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_2_and_write_nothing(command, tmp_path, arguments, message):
    result = command("sweep", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_unknown_sweeps_end_with_2(command):
    for name in ("status", "resume"):
        result = command(name, "none")
        assert result.exit_code == 2
        assert "no sweep at 'none'" in result.stderr


def test_dry_run_prints_groups_members_and_memory(command, tmp_path):
    words = ("parity", *TINY, "transition.dim=1,2", "seed=0..2", "--dry-run")
    result = command("sweep", *words)
    assert result.exit_code == 0, result.stderr
    assert "6 members in 2 groups, each group one program" in result.stdout
    assert "KiB" in result.stdout
    assert "memory: an upper estimate, of parameters, gradients" in result.stdout
    data = json.loads(command("sweep", *words, "--json").stdout)
    assert [group["name"] for group in data["groups"]] == ["g00", "g01"]
    assert data["groups"][1]["members"] == [f"JT=2,seed={seed}" for seed in range(3)]
    assert data["groups"][0]["memory_bytes"] > 3 * 4 * 1000
    assert data["members"][3] == {
        "name": "JT=2,seed=0",
        "group": "g01",
        "varied": {"JT": 2, "seed": 0},
    }
    assert list(tmp_path.iterdir()) == []


def test_a_name_goes_on_with_the_same_sweep_and_refuses_another(command, worked_on):
    words = ("parity", *TINY, "transition.dim=1,2", "seed=0..1")
    first = command("sweep", *words, "--name", "mine", "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["sweep"] == "sweeps/mine"
    assert worked_on == [("mine", "g00"), ("mine", "g01")]
    assert command("sweep", *words, "--name", "mine").exit_code == 0
    other = command("sweep", "parity", *TINY, "seed=0..2", "--name", "mine")
    assert other.exit_code == 2
    assert (
        "is another sweep: take another --name, or continue that one with "
        "plstm-seq resume sweeps/mine" in (other.stderr)
    )
    assert command("resume", "mine").exit_code == 0
    assert len(worked_on) == 6

    shown = command("status", "mine")
    assert "4 members: 4 waiting; 0 evaluated" in shown.stdout
    rows = json.loads(command("status", "sweeps/mine", "--json").stdout)
    assert rows[0] == {
        "member": "JT=1,seed=0",
        "group": "g00",
        "status": "waiting",
        "step": 0,
        "steps": 6,
        "stage": None,
        "evaluated": False,
        "error": None,
    }

    # The file in the folder is a sweep to start from.
    again = command("sweep", "--config", "sweeps/mine/sweep.yaml", "--dry-run", "--json")
    assert len(json.loads(again.stdout)["members"]) == 4
    mixed = command("sweep", "parity", "seed=1", "--config", "sweeps/mine/sweep.yaml")
    assert "is a sweep: write into it what varies" in mixed.stderr
    assert "is for task 'parity', not 'even_pairs'" in (
        command("sweep", "even_pairs", "--config", "sweeps/mine/sweep.yaml").stderr
    )
    # And a run's config is one, too.
    Path("config.yaml").write_text(command("train", "parity", *TINY, "--dry-run").stdout)
    config = command("sweep", "seed=0..4", "--config", "config.yaml", "--dry-run", "--json")
    assert len(json.loads(config.stdout)["members"]) == 5


def test_interruptions_and_failures_say_how_to_go_on(command, monkeypatch):
    def interrupted(folder, group, **_):
        raise KeyboardInterrupt

    def failing(folder, group, **_):
        raise MemoryError("not enough")

    words = ("parity", *TINY, "seed=0..1", "--name", "mine")
    monkeypatch.setattr(launch, "run_group", interrupted)
    result = command("sweep", *words)
    assert result.exit_code == 130
    assert "stopped; continue with: plstm-seq resume sweeps/mine" in result.stderr
    monkeypatch.setattr(launch, "run_group", failing)
    result = command("resume", "mine")
    assert result.exit_code == 1
    hint = "try again: plstm-seq resume sweeps/mine"
    assert "1 of 1 groups failed: g00: out of memory (not enough); a smaller" in result.stderr
    assert hint in result.stderr


@pytest.mark.slow
def test_ctrl_c_stops_all_worker_processes_and_saves_their_members(tmp_path):
    sweep = small_sweep("steps=1000000", "checkpoint_every=1000000", "solved=null")
    (tmp_path / "sweep.yaml").write_text(to_yaml(sweep))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    words = ["sweep", "--config", "sweep.yaml", "--name", "long", "--executor", "processes"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from experiments.cli import main; main()",
            *words,
            "--max-parallel",
            "2",
        ],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = tmp_path / "sweeps" / "long"

    def rows():
        return status(folder) if (folder / "sweep.yaml").exists() else []

    try:
        while not rows() or any(row.step < 4 for row in rows()):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.5)
        assert {row.status for row in rows()} == {"running"}
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "stopped; continue with: plstm-seq resume sweeps/long" in errors
    for row in rows():
        assert row.status == "interrupted"
        assert (folder / "members" / row.member / "checkpoints" / str(row.step)).is_dir()
    assert "g01: stopped; all members are saved" in (folder / "groups" / "g01.log").read_text()


def test_a_worker_that_fails_is_reported_with_its_log(tmp_path):
    folder = create_sweep(small_sweep(), tmp_path / "sweep")
    with folder.lock("g00"), pytest.raises(GroupsFailedError, match=r"1 of 2 .*g77\.log"):
        ProcessesExecutor(2).run(folder.path, ["g00", "g77"])
    assert "no group 'g77'" in folder.log("g77").read_text()
    assert "works on it; skipped" in folder.log("g00").read_text()


def test_executors_by_name():
    assert isinstance(make_executor("processes", max_parallel=3), ProcessesExecutor)
    assert isinstance(make_executor("local"), LocalExecutor)
