"""A run from its first step to its figure, by the functions that a notebook calls."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import polars
import pytest
from small_run import small_config

import plstm_seq
from experiments import (
    EvaluationConfig,
    RunError,
    decode,
    default_config,
    evaluate,
    load_run,
    plot,
    train,
)
from experiments.new_runs import create_run
from experiments.run import ROOT, read_environment
from plstm_seq.evaluation import read_parquet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    run = train(small_config(), folder, progress=False)
    evaluate(run)
    return run


def test_a_checkout_need_not_be_installed(monkeypatch):
    def version(package):
        if package == "plstm-seq":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr("experiments.run.version", version)
    assert read_environment()["plstm-seq"] == plstm_seq.__version__


def test_a_run_is_a_folder(run):
    names = {path.name for path in run.folder.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "evaluation.parquet",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["platform"] == "cpu"
    assert environment["jax"]
    assert environment["xla_flags"] == os.environ.get("XLA_FLAGS", "")
    assert [record["step"] for record in run.metrics] == [2, 4, 6]


def test_a_loaded_run_is_the_run(run):
    loaded = load_run(run.folder)
    assert loaded.config == run.config
    tokens = loaded.task.encode("0110")[None]
    np.testing.assert_array_equal(loaded.model(tokens), run.model(tokens))


def test_evaluation_is_kept_and_repeatable(run):
    rows = read_parquet(run.evaluation_path)
    assert set(rows["metric"]) == {"token", "sequence", "last", "segment"}
    assert set(rows["JT"]) == {run.config.model.mixer.transition.dim} == {3}
    assert set(rows["trained_length"]) == {5}
    first = rows.to_dicts()
    evaluate(run)
    assert run.evaluation.to_dicts() == first
    evaluate(run, [7], num_sequences=3)
    assert run.evaluation.to_dicts() == first
    assert set(run.evaluations["length"]) == {4, 7, 9}


def test_decoding_says_what_the_model_and_the_rule_say(run):
    decoded = decode(run, "0 1 1 0 1")
    assert [entry.symbol for entry in decoded] == ["0", "1", "1", "0", "1"]
    labels = [run.task.labels.index(entry.label) for entry in decoded]
    assert labels == [0, 1, 0, 0, 1]
    logits = run.model(run.task.encode("01101")[None])[0]
    expected = [run.task.labels[int(i)] for i in logits.argmax(-1)]
    assert [entry.prediction for entry in decoded] == expected
    with pytest.raises(ValueError, match="text: got symbol '2', expected one of"):
        decode(run, "012")


def test_figures(run, tmp_path):
    files = plot([run, run], tmp_path / "new" / "figure.v1", labels=["one", "two"])
    assert [file.name for file in files] == ["figure.v1.png", "figure.v1.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in files[1].read_text()


def test_evaluation_with_snapping_keeps_both_passes(run):
    result = evaluate(run, [3, 7], num_sequences=4, snap_every=2)
    metrics = {row.metric for row in result.rows}
    assert {"token", "sequence", "last", "snapped_token", "snapped_sequence"} <= metrics
    stored = read_parquet(run.evaluation_path).filter(num_sequences=4)
    assert set(stored["metric"].unique()) == metrics
    snapped = stored.filter(polars.col("metric").str.starts_with("snapped_"))
    assert set(snapped["snap_every"]) == {2}


def test_figures_need_evaluated_runs(run, tmp_path):
    with pytest.raises(RunError, match="no runs"):
        plot([], tmp_path / "figure")
    fresh = load_run(run.folder)
    run.evaluation_path.rename(tmp_path / "away")
    try:
        with pytest.raises(RunError, match="has not been evaluated: plstm-seq evaluate"):
            plot([fresh], tmp_path / "figure")
    finally:
        (tmp_path / "away").rename(run.evaluation_path)


def test_resuming_changes_nothing_of_a_finished_run(run):
    before = run.metrics
    resumed = train(folder=run.folder, resume=True, progress=False)
    assert resumed.metrics == before


def test_folders_are_never_written_over(run):
    with pytest.raises(RunError, match="exists already"):
        train(small_config(), run.folder, progress=False)


def test_resuming_another_config_is_refused(run):
    with pytest.raises(RunError, match="another config"):
        train(small_config("parity", "seed=1"), run.folder, resume=True, progress=False)
    with pytest.raises(RunError, match="no run at"):
        train(folder=run.folder / "none", resume=True, progress=False)
    with pytest.raises(RunError, match="name it"):
        train(resume=True)
    with pytest.raises(RunError, match="needs a config"):
        train()


def test_names_in_runs_and_their_neighbours(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ROOT.mkdir()
    (ROOT / "parity-1").symlink_to(run.folder)
    assert load_run("parity-1").config == run.config
    with pytest.raises(RunError, match=r"no run at 'parity-2'.*nearest: parity-1"):
        load_run("parity-2")


def test_a_task_labelled_at_its_end(tmp_path):
    config = small_config("modular_arithmetic_brackets", "evaluation.lengths=[5, 9]")
    run = train(config, tmp_path / "brackets", progress=False)
    result = evaluate(run)
    assert result.lengths == (5, 9)
    decoded = decode(run, "( 1 + 2 )")
    assert [entry.label for entry in decoded] == [None, None, None, None, "3"]


def test_a_config_of_python_values_is_stored_as_files_hold_it(tmp_path, monkeypatch):
    """A path, a range and numbers of numpy; what cannot be stored leaves no folder."""
    monkeypatch.chdir(tmp_path)
    config = default_config("parity")
    lengths = EvaluationConfig(lengths=range(4, 9, 4), num_sequences=np.int64(16))
    config = replace(config, evaluation=lengths, initial_run=Path("before"), seed=np.int64(3))
    run = create_run(config, "stored")
    assert load_run("stored").config == run.config == config
    assert (config.evaluation.lengths, config.initial_run, config.seed) == ((4, 8), "before", 3)
    unknown = replace(config)
    object.__setattr__(unknown, "initial_run", object())
    with pytest.raises(TypeError):
        create_run(unknown, "refused")
    assert not Path("refused").exists()


def test_it_is_imported_where_standard_output_is_closed():
    code = "import sys; sys.stdout = None; import experiments.console"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
