"""The Slurm executor without Slurm: with local processes of submitit, and with commands that answer
as Slurm's do. tests/slurm has the rest."""

import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_run import small_config

from experiments import RunError
from experiments.config import ConfigError
from experiments.sweeps import Sweep, create_sweep, slurm
from experiments.sweeps.executors import GroupsFailedError
from experiments.sweeps.slurm import SlurmExecutor, SlurmOptions, read_options
from experiments.sweeps.slurm_job import GroupJob

pytestmark = pytest.mark.slow

# The first start works until Ctrl-C and saves then.
WORKER = """
    import pathlib, sys, time
    saved = pathlib.Path(sys.argv[1])
    if not saved.exists():
        try:
            print("begins", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            saved.write_text("checkpoint")
            sys.exit(130)
    print("goes on from", saved.read_text())
"""
# The first start does not hear Ctrl-C, as in a long compilation.
STUBBORN = """
    import pathlib, signal, sys, time
    seen = pathlib.Path(sys.argv[1])
    if not seen.exists():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        seen.touch()
        print("begins", flush=True)
        time.sleep(60)
    print("goes on")
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "_PATIENCE_SECONDS", 0.3)


def job_of(tmp_path, script, *arguments, grace_seconds=10.0):
    command = (sys.executable, "-c", textwrap.dedent(script), *arguments)
    return GroupJob(command, tmp_path / "groups" / "g00.log", grace_seconds)


def submit_locally(tmp_path, job):
    (submitted,) = slurm._submit_array(tmp_path / "slurm", [job], {"timeout_min": 2}, "local")
    return submitted


def follow(job):
    lines = []
    return slurm.follow({"g00": job}, lines.append), lines


def wait_until_begun(job):
    deadline = time.monotonic() + 30
    while not job.log.exists() or "begins" not in job.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def signal_task(submitted, number):
    """As Slurm does: submitit's controller of local processes does not pass it on."""
    controller = submitted._process.pid
    children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(children[0]), number)


@pytest.mark.parametrize(
    ("script", "grace_seconds"),
    [(WORKER, 30.0), (STUBBORN, 1.0)],
    ids=["saves on Ctrl-C", "must be killed"],
)
def test_a_job_told_to_stop_goes_on_when_it_starts_again(tmp_path, script, grace_seconds):
    job = job_of(tmp_path, script, str(tmp_path / "saved"), grace_seconds=grace_seconds)
    submitted = submit_locally(tmp_path, job)
    wait_until_begun(job)
    signal_task(submitted, signal.SIGUSR2)
    assert follow(submitted) == (
        {"g00": "finished"},
        [f"g00: running (job {submitted.job_id})", f"g00: finished (job {submitted.job_id})"],
    )
    assert "goes on" in job.log.read_text()


def test_a_job_ended_by_slurm_saves_first(tmp_path):
    job = job_of(tmp_path, WORKER, str(tmp_path / "saved"), grace_seconds=30.0)
    submitted = submit_locally(tmp_path, job)
    wait_until_begun(job)
    signal_task(submitted, signal.SIGTERM)
    assert follow(submitted)[0] == {"g00": "failed"}
    assert (tmp_path / "saved").exists()
    assert "neither ended nor requeued" in str(submitted.exception())


def test_a_worker_that_fails_is_told_with_its_log(tmp_path):
    job = job_of(tmp_path, "import sys; print('why'); sys.exit(7)")
    submitted = submit_locally(tmp_path, job)
    assert follow(submitted)[0] == {"g00": "failed"}
    assert f"exit code 7: see {job.log}" in str(submitted.exception())
    assert job.log.read_text() == "why\n"


def test_a_job_runs_the_worker_of_its_group(tmp_path):
    folder = create_sweep(Sweep(small_config(), ({"seed": 0},)), tmp_path / "sweep")
    with folder.lock("g00"):
        jobs = slurm.submit(folder.path, ["g00"], SlurmOptions(), cluster="local")
        assert slurm.follow(jobs, print) == {"g00": "skipped"}
    assert "works on it; skipped" in folder.log("g00").read_text()


class FakeSlurm:
    """sbatch keeps what it is given; squeue answers one after the other of `answers`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._command("srun", "exit 1")
        self._command("sbatch", f"cp $1 {folder}/script; echo Submitted batch job 7")
        self._command(
            "squeue",
            f"cd {folder}; n=$(cat asked 2>/dev/null || echo 0); cat answer$n || exit 1",
            "[ -e answer$((n + 1)) ] && echo $((n + 1)) > asked; exit 0",
        )

    def _command(self, name, *lines):
        path = self.folder / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)

    def refuse(self, reason):
        self._command("sbatch", f"echo {reason} >&2; exit 1")

    def answer(self, *answers):
        (self.folder / "asked").unlink(missing_ok=True)
        for number, answer in enumerate(answers):
            (self.folder / f"answer{number}").write_text("\n".join([*answer, ""]))

    @property
    def script(self):
        return (self.folder / "script").read_text()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}{os.environ['PATH']}")
    return fake


@pytest.fixture
def folder(tmp_path):
    settings = ({"width": 4}, {"width": 8})
    return create_sweep(Sweep(small_config(), settings), tmp_path / "sweep").path


def test_options_go_to_the_cluster(cluster, folder, capsys):
    options = SlurmOptions("gpu", "lab", 30, 3, 2, 1.5, ("module load cuda",), 60)
    SlurmExecutor(options, max_parallel=1, detach=True).run(folder, ["g00", "g01"])
    asked = {line.removeprefix("#SBATCH --") for line in cluster.script.splitlines()}
    assert asked >= {
        "partition=gpu",
        "account=lab",
        "time=30",
        "cpus-per-task=3",
        "gpus-per-node=2",
        "mem=1536MB",
        "module load cuda",
        "signal=USR2@60",
        "array=0-1%1",
        "job-name=sweep",
    }
    assert "2 groups are in the queue as job 7; it ends with: scancel 7" in capsys.readouterr().err


def test_changes_in_the_queue_are_announced(cluster, folder, capsys):
    cluster.answer(
        ["7_0|PENDING", "7_1|PENDING", "3|RUNNING"],
        ["7_0|RUNNING", "7_1|RUNNING"],
        ["7_0|PENDING", "7_1|COMPLETED"],
        ["7_0|COMPLETING"],
        ["7_0|CANCELLED"],
    )
    with pytest.raises(GroupsFailedError, match=r"1 of 2 groups .*g00 cancelled .*g00\.log"):
        SlurmExecutor().run(folder, ["g00", "g01"])
    assert capsys.readouterr().err.splitlines()[1:] == [
        "g00: pending (job 7_0)",
        "g01: pending (job 7_1)",
        "g00: running (job 7_0)",
        "g01: running (job 7_1)",
        "g00: pending again (job 7_0)",
        "g01: finished (job 7_1)",
        "g00: running (job 7_0)",
        "g00: cancelled (job 7_0)",
    ]


def test_what_is_in_the_queue_is_not_submitted_again(cluster, folder):
    SlurmExecutor(detach=True).run(folder, ["g00", "g01"])
    first = cluster.script
    cluster.answer(["7_0|RUNNING", "7_1|FAILED"])
    jobs = slurm.submit(folder, ["g00", "g01"], SlurmOptions())
    assert {group: job.job_id for group, job in jobs.items()} == {"g00": "7_0", "g01": "7"}
    assert "--array" in first
    assert "--array" not in cluster.script
    cluster.answer([])
    assert slurm.follow(jobs, print) == {"g00": "lost", "g01": "lost"}


def test_ctrl_c_leaves_the_jobs(cluster, folder, capsys, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "follow", press)
    with pytest.raises(KeyboardInterrupt):
        SlurmExecutor().run(folder, ["g00", "g01"])
    assert "what is in the queue goes on" in capsys.readouterr().err


def test_a_refusal_is_told(cluster, folder):
    cluster.refuse("no such partition")
    with pytest.raises(RunError, match=r"(?s)refused the job.*no such partition"):
        SlurmExecutor().run(folder, ["g00", "g01"])


def test_a_queue_that_does_not_answer_is_told(cluster, folder):
    with pytest.raises(RunError, match="squeue does not answer"):
        SlurmExecutor().run(folder, ["g00"])


def test_a_machine_of_no_cluster_is_told(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunError, match="srun"):
        SlurmExecutor().run(folder, ["g00"])


def test_without_submitit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"pip install 'plstm-seq\[slurm\]'"):
        SlurmExecutor()


def test_options_are_read_from_words():
    words = ["time=30", "partition=gpu", "memory=1.5", "setup=a b", "setup=c"]
    assert read_options(words) == SlurmOptions(
        partition="gpu", time=30, memory=1.5, setup=("a b", "c")
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tim=3", "unknown option of slurm 'tim'; nearest: time"),
        ("time=x", "slurm time: .* integer"),
        ("time=0", "slurm time: got 0, expected at least 1"),
        ("gpus=-1", "slurm gpus: got -1, expected at least 0"),
        ("memory=0", "slurm memory: got 0.*, expected above 0 GB"),
        (
            "signal_seconds=3600",
            "signal_seconds: got 3600, expected less than the time limit of 60 minutes",
        ),
    ],
)
def test_wrong_options_are_told(word, message):
    with pytest.raises(ConfigError, match=message):
        read_options([word])
