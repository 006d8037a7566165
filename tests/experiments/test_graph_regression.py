"""Attributes of graphs as targets: scaled by the training graphs, measured in their own units."""

import json

import numpy as np
import pytest
from tu_files import write_tu
from typer.testing import CliRunner

from experiments import ConfigError, default_config, override
from experiments.cli import app
from experiments.cross_validation import cross_validate
from experiments.problems import make_task, problem_of

WORDS = (
    "training.steps=40",
    "validate_every=20",
    "steps_per_dispatch=20",
    "stages=[[1,40]]",
    "training.batch_size=8",
    "warmup_steps=5",
    "learning_rate=1e-2",
    "width=8",
    "num_blocks=1",
    "mixer=gin",
)


def make(folder, **options):
    return make_task("tu", data=str(folder), target="attribute", num_folds=3, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tu(tmp_path_factory.mktemp("tu") / "TRI")


def test_a_folder_that_has_changed_is_read_again(tmp_path):
    folder = write_tu(tmp_path / "TRI")
    task = make(folder)
    before = task.attributes.copy()
    path = next(folder.glob("*_graph_attributes.txt"))
    path.write_text(path.read_text().replace("0", "17"))
    # What has been read stays one data set; a new task reads the new files.
    np.testing.assert_array_equal(task.attributes, before)
    fresh = make(folder)
    assert (fresh.attributes != before).any()
    assert fresh.scaling.mean != pytest.approx(task.scaling.mean)
    numbers = np.arange(4)
    batches = [problem_of(each).sample.some(numbers, 4).targets for each in (task, fresh)]
    assert (np.asarray(batches[0]) != np.asarray(batches[1])).any()


def test_every_fold_is_trained_and_its_errors_are_measured(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"data": str(folder), "target": "attribute", "num_folds": 3}
    config = override(default_config("tu", **options), WORDS)
    assert config.training.loss == "squared_error"
    result = cross_validate(config, "sweeps/folds", progress=False)
    for number, fold in enumerate(result.folds):
        assert fold.fold == number
        assert set(fold.validation) == set(fold.test) == {"mae", "rmse"}
        # Better than the mean of the training graphs.
        task = make(folder, fold=number)
        guess = task.measured(task.part.validation, np.zeros((len(task.part.validation), 2)))
        assert fold.validation["mae"] < 0.6 * guess["mae"]
    means = {name: np.mean([fold.test[name] for fold in result.folds]) for name in ("mae", "rmse")}
    assert result.mean == pytest.approx(means)
    command = ["cross-validate", *(f"task.{name}={value}" for name, value in options.items())]
    again = CliRunner().invoke(app, [*command, *WORDS, "--name", "folds"])
    assert again.exit_code == 0, again.stderr
    assert f"test mae {result.mean['mae']:#.3g} +- " in again.stdout.replace("\n", " ")
    document = json.loads((tmp_path / "sweeps" / "folds" / "cross_validation.json").read_text())
    assert document == result.document()


def test_a_run_says_its_errors_and_has_no_accuracy(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["train", "tu", f"data={folder}", "task.target=attribute", "task.column=1"]
    command += ["task.num_folds=3", *WORDS, "training.steps=20", "stages=[[1,20]]"]
    result = CliRunner().invoke(app, [*command, "loss=absolute_error", "--name", "run"])
    assert result.exit_code == 0, result.stderr
    assert "validation_test_mae" in result.stdout
    assert "accuracy" not in result.stdout + result.stderr
    (record,) = map(json.loads, (tmp_path / "runs/run/metrics.jsonl").read_text().splitlines())
    assert {name for name in record if name.startswith("validation_")} == {
        "validation_mae",
        "validation_rmse",
        "validation_test_mae",
        "validation_test_rmse",
    }
    for command in ("evaluate", "plot"):
        refused = CliRunner().invoke(app, [command, "run"])
        assert refused.exit_code == 2
        assert "predicts numbers, which have no accuracy" in refused.stderr.replace("\n", " ")
    shown = CliRunner().invoke(
        app, ["tasks", "show", "tu", f"data={folder}", "task.target=attribute"]
    )
    assert "labels:  none: numbers are predicted" in shown.stdout


def test_only_training_graphs_say_how_attributes_are_scaled(folder, tmp_path):
    task = make(folder)
    known = task.attributes[task.part.train]
    assert known.shape[1] == 2
    targets = problem_of(task).sample.some(task.part.train, len(known)).targets
    np.testing.assert_allclose(targets[: len(known)].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(targets[: len(known)].std(0), 1, rtol=1e-6)
    other = write_tu(tmp_path / "TRI")
    path = other / "TRI_graph_attributes.txt"
    lines = path.read_text().splitlines()
    for graph in (*task.part.test, *task.part.validation):
        lines[graph] = "-1e9, 1e9"
    path.write_text("\n".join(lines))
    changed = make(other)
    np.testing.assert_array_equal(changed.part.train, task.part.train)
    for one, same in zip(changed.scaling, task.scaling, strict=True):
        np.testing.assert_array_equal(one, same)


def test_errors_are_in_the_units_of_the_file(folder):
    task = make(folder, column=0)
    graphs = task.part.test
    outputs = (task.attributes[graphs] - task.scaling.mean) / task.scaling.std
    assert task.measured(graphs, outputs) == pytest.approx({"mae": 0, "rmse": 0}, abs=1e-9)
    off = np.arange(len(graphs))[:, None]
    found = task.measured(graphs, outputs + off / task.scaling.std)
    assert found == pytest.approx({"mae": off.mean(), "rmse": np.sqrt((off**2).mean())})


def test_what_does_not_vary_is_not_divided_by_nothing(tmp_path):
    folder = write_tu(tmp_path / "TRI")
    (folder / "TRI_graph_attributes.txt").write_text("0.1\n" * 24)
    assert make(folder).scaling.std.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({"target": "graph"}, (), "target: got 'graph', expected one of class, attribute"),
        ({"column": 1}, (), "expected target=attribute"),
        ({"target": "attribute", "column": 2}, (), "column: got 2, expected below 2 of TRI"),
        ({"target": "attribute"}, ("loss=cross_entropy",), "expected one of squared_error, abs"),
        (
            {"target": "attribute"},
            ("label_smoothing=0.1",),
            "label_smoothing: got 0.1, expected 0 with loss",
        ),
        (
            {"target": "attribute"},
            ("solved={threshold: 0.1}",),
            "solved: got an accuracy, expected null",
        ),
        ({}, ("loss=squared_error",), "expected one of cross_entropy, binary_cross_entropy"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words, message, folder):
    with pytest.raises(ConfigError, match=message):
        override(default_config("tu", data=str(folder), **options), words)


def test_files_without_what_is_predicted_are_named(tmp_path):
    folder = write_tu(tmp_path / "TRI")
    (folder / "TRI_graph_labels.txt").unlink()
    assert make(folder).outputs == 2
    with pytest.raises(ConfigError, match=r"no class; task.target=attribute predicts"):
        default_config("tu", data=str(folder))
    folder = write_tu(tmp_path / "OTHER")
    (folder / "TRI_graph_attributes.txt").unlink()
    with pytest.raises(ConfigError, match=r"there is no file TRI_graph_attributes.txt"):
        default_config("tu", data=str(folder), target="attribute")
