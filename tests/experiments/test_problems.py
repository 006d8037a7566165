"""Tasks of every kind: their configs, batches, and a whole run each."""

import jax
import numpy as np
import pytest
from tu_files import write_tu
from typer.testing import CliRunner

from experiments import ConfigError, default_config, evaluate, load_run, override, plot, train
from experiments.cli import app
from experiments.config import from_document, to_document
from experiments.costs import costs_of
from experiments.cross_validation import cross_validate
from experiments.evaluating import evaluate as evaluate_run
from experiments.problems import make_task, problem_of, task_names
from experiments.problems.base import shapes_of
from experiments.run import RunError
from experiments.sweeps.plan import member_bytes
from plstm_seq.training import HostSample, NonFiniteLossError

OTHERS = [name for name in task_names() if problem_of(make_task(name)).axis != "length"]
SMALL = {
    "arrow_pointing": ("task.scale=0.2", "patch_size=8", "stages=[[40,4]]", "lengths=[40,48]"),
    "grid_parity": ("stages=[[3,4]]", "lengths=[3,4]"),
    "dag_boolean": ("stages=[[2,4]]", "lengths=[2,3]"),
}
SHARED = (
    "training.steps=4",
    "steps_per_dispatch=2",
    "checkpoint_every=4",
    "training.batch_size=4",
    "warmup_steps=1",
    "width=16",
    "num_blocks=1",
    "num_sequences=6",
    "evaluation.batch_size=4",
)


def small_config(task):
    heads = "mixer.num_heads=2"
    return override(default_config(task), [*SHARED, heads, *SMALL[task]])


@pytest.mark.parametrize("name", OTHERS)
def test_the_default_config_round_trips_and_its_costs_are_known(name):
    config = default_config(name)
    assert from_document(to_document(config)) == config
    shapes = shapes_of(problem_of(config.task.make()), 2, config.training.curriculum.longest)
    assert shapes.targets.shape == shapes.mask.shape
    costs = costs_of(config)
    assert costs.parameters > 0
    assert costs.flops_per_token > 0
    assert costs.state_size == 0
    assert member_bytes(config) > 4 * costs.parameters


def test_a_label_a_graph_is_read_from_a_pool():
    config = from_document({"task": {"name": "dag_boolean", "labels_at": "graph"}})
    assert config.model.pooling == "mean"
    assert default_config("dag_boolean").model.pooling == "node"


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("parity", ["model=vision"], "does not read sequences; model=sequence does"),
        ("arrow_pointing", ["model=sequence"], "does not read images and grids; model=vision"),
        ("dag_boolean", ["model=sequence"], "does not read graphs; model=graph"),
        ("arrow_pointing", ["pooling=cells"], "expected corners or another"),
        ("grid_parity", ["pooling=mean"], "expected cells for grid_parity"),
        ("dag_boolean", ["pooling=sum"], "expected node for dag_boolean"),
        ("arrow_pointing", ["mixer=lstm"], "unknown kind 'lstm'; nearest: plstm_2d"),
        ("grid_parity", ["curriculum=uniform"], "got 'uniform', expected sizes"),
        ("dag_boolean", ["evaluation.snap_every=4"], "evaluation.snap_every: expected none"),
        ("dag_boolean", ["evaluation.mixture=[2, 4]"], "evaluation.mixture: expected none"),
    ],
)
def test_what_does_not_fit_a_task_is_refused(task, words, message):
    with pytest.raises(ConfigError, match=message):
        override(default_config(task), words)


def test_another_mixer_of_images_is_one_word():
    config = override(default_config("arrow_pointing"), ["mixer=attention", "pooling=cls"])
    assert config.model.mixer.kind == "attention"
    assert config.model.width == default_config("arrow_pointing").model.width


def test_batches_of_graphs_are_padded_alike_and_belong_to_their_graphs():
    problem = problem_of(make_task("dag_boolean"))
    assert isinstance(problem.sample, HostSample)
    one, other = (problem.sample.on_host([3], step, 5, 3) for step in (0, 1))
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)
    again = problem.sample.on_host([3], 0, 5, 3)
    jax.tree.map(np.testing.assert_array_equal, one, again)
    drawn = problem.task.draw([3, 0], 5, 3)
    real = len(drawn.nodes)
    np.testing.assert_array_equal(one.targets[:real], drawn.targets)
    np.testing.assert_array_equal(one.owner[:real], drawn.graph)
    assert not one.mask[real:].any()
    assert one.inputs.graph.sizes.tolist() == np.bincount(drawn.graph).tolist()


@pytest.mark.parametrize("task", SMALL)
def test_a_run_is_trained_evaluated_and_drawn(task, tmp_path):
    config = small_config(task)
    run = train(config, tmp_path / "run", progress=False)
    assert run.status is not None
    assert run.status.step == 4
    result = evaluate(run)
    axis = "depth" if task == "dag_boolean" else "size"
    assert result.axis == axis
    assert result.lengths == config.evaluation.lengths
    assert 0 <= result.row("token", result.lengths[0]).value <= 1
    assert all(file.exists() for file in plot([run], tmp_path / "figure"))
    longest = max(config.evaluation.lengths)
    command = ["evaluate", str(run.folder), f"--{axis}s", str(longest), "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    refused = CliRunner().invoke(app, ["evaluate", str(run.folder), "--lengths", "8"])
    assert refused.exit_code == 2
    assert f"--lengths: got '8', expected --{axis}s" in refused.stderr.replace("\n", " ")
    refused = CliRunner().invoke(app, ["decode", str(run.folder), "0 1"])
    assert refused.exit_code == 2
    assert "plstm-seq decode is for models of sequences" in refused.stderr.replace("\n", " ")
    if task == "dag_boolean":
        refused = CliRunner().invoke(app, ["probe", str(run.folder)])
        assert refused.exit_code == 2
        assert "probes are for models of sequences and" in refused.stderr.replace("\n", " ")
    with pytest.raises(ValueError, match="no state along a length"):
        evaluate_run(run, snap_every=4)


def test_a_run_on_graphs_that_diverges_has_ended(tmp_path):
    config = override(small_config("dag_boolean"), ["learning_rate=1e30", "clip_norm=null"])
    with pytest.raises(NonFiniteLossError):
        train(config, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.status is not None
    assert run.status.status == "diverged"
    assert run.is_trained


def test_runs_of_different_kinds_are_not_drawn_together(tmp_path):
    class Kind:
        def __init__(self, axis):
            self.problem = type("Problem", (), {"axis": axis})

    with pytest.raises(RunError, match="do not go into one figure"):
        plot([Kind("length"), Kind("size")], tmp_path / "figure")


def test_every_fold_of_a_data_set_is_trained_and_tested_once(tmp_path):
    folder = write_tu(tmp_path / "TRI")
    words = ["training.steps=4", "validate_every=2", "steps_per_dispatch=2", "width=8"]
    words += ["num_blocks=1", "warmup_steps=1", "stages=[[1,4]]", "training.batch_size=8"]
    config = override(default_config("tu", data=str(folder), num_folds=3), words)
    result = cross_validate(config, tmp_path / "folds", progress=False)
    assert [fold.fold for fold in result.folds] == [0, 1, 2]
    accuracies = [fold.test["accuracy"] for fold in result.folds]
    assert result.mean == {"accuracy": pytest.approx(np.mean(accuracies))}
    tested = [
        make_task("tu", data=str(folder), num_folds=3, fold=fold).part.test for fold in range(3)
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(tested)), np.arange(24))
    again = cross_validate(config, tmp_path / "folds", progress=False)
    assert again == result
    with pytest.raises(ConfigError, match="no folds"):
        cross_validate(default_config("parity"))


def test_an_epoch_of_a_data_set_has_every_training_graph_once(tmp_path):
    task = make_task("tu", data=str(write_tu(tmp_path / "TRI")), num_folds=3)
    sample = problem_of(task).sample
    seen = [sample.on_host([0], step, 5, 1) for step in range(len(task.part.train) // 5 + 1)]
    assert sum(int(batch.mask.sum()) for batch in seen) == len(task.part.train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data=PATH"),
        ({"data": "/nowhere"}, "got 0 files NAME_A.txt of a data set, expected one"),
        ({"data": "/nowhere", "fold": 10}, "fold: got 10, expected below num_folds"),
    ],
)
def test_a_data_set_that_is_not_there_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        default_config("tu", **options)


def test_examples_are_shown_and_drawn(tmp_path):
    def run(*words):
        result = CliRunner().invoke(app, ["tasks", *words])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    assert "arrow_pointing" in run("list")
    assert "dag_listops" in run("list", "--json")
    assert "192 x 192 pixels" in run("show", "arrow_pointing", "--count", "1")
    assert "labels" in run("show", "grid_parity", "--count", "1", "--length", "2")
    assert "graphs" in run("list")
    assert "or" in run("show", "dag_boolean", "--count", "2", "--length", "3")
    assert "examples" not in run("show", "tu", f"data={write_tu(tmp_path / 'TRI')}")
    run("show", "grid_parity", "--picture", str(tmp_path / "cells"))
    assert {file.name for file in tmp_path.glob("cells.*")} == {"cells.png", "cells.svg"}
    refused = CliRunner().invoke(app, ["tasks", "show", "parity", "--picture", "x"])
    assert refused.exit_code == 2
    assert "no pictures" in refused.stderr
