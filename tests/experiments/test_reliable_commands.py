"""What docs/reliability.md promises of commands: reading, refusing, a full disk, names."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from attacked import REPOSITORY, SLOW, Then, command, config

from experiments import (
    load_run,
    override,
    train,
)
from experiments.config import ConfigError
from experiments.run import RunStatus
from experiments.sweeps import Sweep, create_sweep, run_sweep, vary
from plstm_seq.training.records import TIMING_FIELDS

pytestmark = pytest.mark.slow


# 8: reading needs no writing


# Root may write everywhere; a program that is started after this has not that right.
WITHOUT_OVERRIDE = """
import ctypes, os, sys
drop_from_bounding_set, dac_override = 24, 1
if os.getuid() == 0 and "DROPPED" not in os.environ:
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "DROPPED": "1"})
"""


def test_a_read_only_folder_is_read(tmp_path):
    """In a process that has not root's right to write everywhere."""
    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep").path
    run_sweep(folder, progress=False)
    member = folder / "members" / "seed=0"
    away = tmp_path / "away"
    away.mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shutil.rmtree(folder / "groups")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    script = f"""
from typer.testing import CliRunner
from experiments.cli import app
for words in (
    ["status", {str(folder)!r}],
    ["results", {str(folder)!r}],
    ["compare", {str(folder)!r}],
    ["report", {str(folder)!r}],
    ["resume", {str(folder)!r}],
    ["decode", {str(member)!r}, "0 1"],
    ["plot", {str(member)!r}],
    ["export", {str(member)!r}, "weights.safetensors"],
):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output)
result = CliRunner().invoke(app, ["evaluate", {str(member)!r}])
assert result.exit_code == 2 and "is read-only" in result.stderr, result.output
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OVERRIDE + script],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
    )
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert {"sweep_report.html", "weights.safetensors"} <= {path.name for path in away.iterdir()}
    assert all(before[path] == path.stat().st_mtime_ns for path in folder.rglob("*.p*"))


# 9: refused commands leave nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("parity", "--tracker", "wandb"), "needs the package wandb"),
        (("parity", "implementation=pallas_tpu"), "TPU"),
        (("parity", "width=10", "num_heads=4", "DK=null", "DV=null"), "model"),
        (("arrow_pointing", "model=vision", "patch_size=7"), "model"),
        (("parity", "training.batch_size=0"), "training: batch_size"),
        (("parity", "evaluation.num_sequences=0"), "evaluation: num_sequences"),
        (("parity", "nonsense=1"), "nonsense"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("kind", ["train", "sweep"])
def test_a_refused_command_leaves_nothing(tmp_path, monkeypatch, kind, words, message):
    monkeypatch.chdir(tmp_path)
    if kind == "sweep":
        words = (*words, "seed=0,1")
    result = command(kind, *words, "--name", "mine")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_path_that_checkpoints_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("train", "sweep"):
        result = command(kind, "parity", "seed=0", "--folder", "a[x]")
        assert result.exit_code == 2
        assert "without the letters [ ] * ?" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_and_never_filled_is_free(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.1.tmp").touch()
    assert train(config(), tmp_path / "run", progress=False).status == RunStatus("finished", 6)


# 10: a full disk, no memory


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    """A limit to the size of files stands for the disk: the checkpoint cannot be written."""
    script = """
import resource, signal, sys
from experiments.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["plstm-seq", *sys.argv[1:]]
resource.setrlimit(resource.RLIMIT_FSIZE, (@, -1))
main()
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    run = train(config(), tmp_path / "run", progress=False)
    configs = [run.folder / name for name in ("config.json", "config.yaml", "environment.json")]
    limit = max(path.stat().st_size for path in configs) + 200
    words = ["train", "parity", *(word for word in SLOW if not word.startswith("steps=1")),
             "steps=6", "--folder", str(tmp_path / "full")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script.replace("@", str(limit)), *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "could not be written" in errors[0]
    assert not list((tmp_path / "full" / "checkpoints").glob("*.tmp*")), "no room is taken"
    again = train(folder=tmp_path / "full", resume=True, progress=False)
    assert again.status == RunStatus("finished", 6)


def test_no_memory_is_one_line(copy, monkeypatch):
    def exhausted(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.\nmore\nlines")

    monkeypatch.setattr("experiments.evaluating.length_generalization", exhausted)
    result = command("evaluate", copy.folder)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "out of memory" in result.stderr


# 11: names


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/tmp/x", "..", ".", ""])
@pytest.mark.parametrize("kind", ["train", "sweep"])
def test_names_do_not_leave_their_folder(tmp_path, monkeypatch, kind, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    result = command(kind, "parity", "seed=0", "--name", name)
    assert result.exit_code == 2
    assert "--folder" in result.stderr
    assert not list(inside.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_an_explicit_path_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in SLOW if not word.startswith("steps=1")]
    result = command("train", "parity", *words, "steps=2", "checkpoint_every=2",
                     "--folder", "../elsewhere")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert load_run(tmp_path.parent / "elsewhere").status == RunStatus("finished", 2)
    shutil.rmtree(tmp_path.parent / "elsewhere")
    both = command("train", "parity", "--name", "a", "--folder", "b")
    assert "give one of them" in both.stderr


def test_times_apart_a_resumed_run_is_the_whole_one(whole, tmp_path):
    stop = Then(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", progress=False, trackers=[stop])
    resumed = train(folder=tmp_path / "run", resume=True, progress=False)
    expected = [without_times(record) for record in load_run(whole).metrics]
    assert [without_times(record) for record in resumed.metrics] == expected


def without_times(record):
    return {name: value for name, value in record.items() if name not in TIMING_FIELDS}


def test_a_sweep_that_lost_its_end_is_refused(tmp_path):
    folder = create_sweep(Sweep(config(), tuple(vary("seed", [0, 1, 2]))), tmp_path / "sweep").path
    path = folder / "sweep.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    for words in ("status", "results", "resume", "report", "compare"):
        result = command(words, folder)
        assert result.exit_code == 2
        assert f"{path} is damaged (its checksum is another)" in result.stderr


def test_a_config_error_names_the_fields_path():
    with pytest.raises(ConfigError, match=r"^training: batch_size"):
        override(config(), ["training.batch_size=-1"])
