"""Every file of a run and of a sweep, damaged in every way, before every command that reads it.

Whatever the damage, a command either does its work or ends with one line that names a file; what
was measured is not replaced, and other members of a sweep are not touched by it.
"""

import json
import shutil
import warnings
from pathlib import Path

import polars
import pytest
from small_run import small_config
from typer.testing import CliRunner

from experiments import evaluate, train
from experiments.cli import app
from experiments.sweeps import Sweep, create_sweep, run_sweep, vary

pytestmark = pytest.mark.slow

SEED = 7
ASSIGNMENTS = (
    "transition=diagonal",
    "convolution=null",
    "steps=4",
    "checkpoint_every=2",
    "evaluation.lengths=[4]",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = train(
        small_config("parity", *ASSIGNMENTS),
        tmp_path_factory.mktemp("runs") / "whole",
        progress=False,
    )
    evaluate(run)
    return run.folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    config = small_config("parity", *ASSIGNMENTS)
    sweep = Sweep(config, tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path_factory.mktemp("sweeps") / "whole").path
    run_sweep(folder, progress=False)
    return folder


def flip(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0x15
    return bytes(changed)


def cut(data):
    return data[: 2 * len(data) // 3]


def foreign(data):
    return b'["something", {"else": null}]\n'


def empty(data):
    return b""


DAMAGES = {"flip": flip, "cut": cut, "empty": empty, "foreign": foreign, "delete": None}
RUN_FILES = (
    "config.json",
    "config.yaml",
    "environment.json",
    "status.json",
    "cost.json",
    "metrics.jsonl",
    "evaluation.parquet",
    "checkpoints/sealed.json",
    "checkpoints/4/manifest.json",
    "checkpoints/4/meta/metadata",
    "checkpoints/4/model/_METADATA",
)
MEMBER_FILES = tuple(f"members/seed=1/{file}" for file in RUN_FILES)


def damage(path, how):
    if DAMAGES[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[how](path.read_bytes()))


def command(*words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "2000"})


def check(result, folder):
    """One line about the damage, or none; never a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    if result.exit_code:
        assert len(errors) == 1, result.stderr
        assert str(folder) in errors[0]
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", RUN_FILES)
def test_a_run(run, tmp_path, monkeypatch, file, how):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    damage(folder / file, how)
    before = folder / "evaluation.parquet"
    rows = before.read_bytes() if before.exists() else None
    for words in (
        ["decode", folder, "0 1 1"],
        ["plot", folder],
        ["export", folder, tmp_path / "weights.safetensors"],
    ):
        check(command(*words), folder)
    assert rows == (before.read_bytes() if before.exists() else None), "reading wrote"
    evaluated = command("evaluate", folder, "--num-sequences", 3, "--json")
    check(evaluated, folder)
    if not evaluated.exit_code and file.startswith("checkpoints/4"):
        # An older checkpoint, and the result says so.
        assert {row["step"] for row in json.loads(evaluated.stdout)} == {2}
        assert all("is corrupt" in row["passed_over"] for row in json.loads(evaluated.stdout))
    if rows is not None and file != "evaluation.parquet":
        kept = polars.read_parquet(before).filter(num_sequences=6)
        assert kept.equals(polars.read_parquet(run / "evaluation.parquet")), "rows were lost"
    resumed = command("train", "--folder", folder, "--resume")
    check(resumed, folder)
    if not resumed.exit_code:
        status = json.loads((folder / "status.json").read_text())
        assert status == {"status": "finished", "step": 4, "error": None}
    elif file != "status.json":
        same = (folder / "status.json").read_bytes() == (run / "status.json").read_bytes()
        assert same, "what was finished stays so"


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["sweep.yaml", "results.parquet", *MEMBER_FILES])
def test_a_sweep(sweep, tmp_path, monkeypatch, file, how):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(sweep, folder)
    damage(folder / file, how)
    others = {path: path.read_bytes() for path in files_of(folder / "members" / "seed=0")}
    shown = [command("status", folder, "--json"), command("results", folder, "--json")]
    if how == "flip":  # these read by the same function, and take longer
        shown.append(command("compare", folder))
        shown.append(command("report", folder, "--output", tmp_path / "page.html"))
    for result in shown:
        check(result, folder)
        assert not result.exit_code or file == "sweep.yaml", result.stderr
    resumed = command("resume", folder)
    check(resumed, folder)
    if file != "sweep.yaml":
        statuses = {row["member"]: row for row in json.loads(shown[0].stdout)}
        assert statuses["seed=0"]["status"] == "finished"
        rows = json.loads(shown[1].stdout)
        assert rows[0]["members"] == 2
        if not file.endswith("evaluation.parquet") or rows[0]["n"] == 2:
            assert rows == json.loads(command("results", sweep, "--json").stdout)
    for path, data in others.items():
        assert path.read_bytes() == data, f"{path} was changed"


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "delete"])
def test_results_without_members(sweep, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("sweep.yaml", "results.parquet"):
        shutil.copy(sweep / name, folder / name)
    damage(folder / "results.parquet", how)
    result = command("results", folder)
    check(result, folder)
    assert result.exit_code


def files_of(folder: Path):
    return sorted(path for path in folder.rglob("*") if path.is_file())
