"""`plstm-seq export`: the arrays of a run, and its program."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from small_run import small_config
from tu_files import write_tu
from typer.testing import CliRunner

import experiments
import experiments.cli
from experiments import default_config, override
from experiments.config import ConfigError, from_document
from experiments.exporting import export_run
from experiments.new_runs import create_run
from experiments.run import RunError, new_model
from plstm_seq.graphs import line_graph
from plstm_seq.interop.export import load_program
from plstm_seq.interop.export_graph import graph_arrays
from plstm_seq.interop.weights import load_weights, named_arrays, read_metadata
from plstm_seq.models import GraphInputs
from plstm_seq.training import Checkpoint


def run_of(folder, config):
    """A run whose model is as it was made, as if from a checkpoint."""
    run = create_run(config, folder / "run")
    run.__dict__["_loaded"] = new_model(config), Checkpoint(6, "identity")
    return run


def test_arrays_come_with_what_rebuilds_the_model(tmp_path):
    run = run_of(tmp_path, small_config("parity", "seed=3"))
    path = export_run(run, tmp_path / "new" / "parity.safetensors")
    texts = {name: yaml.safe_load(text) for name, text in read_metadata(path).items()}
    assert texts["labels"] == texts["vocabulary"] == ["0", "1"]
    config = from_document(texts["config"])
    assert config == run.config
    model = new_model(from_document({**texts["config"], "seed": 4}))
    load_weights(model, path)
    for name, array in named_arrays(run.model).items():
        np.testing.assert_array_equal(named_arrays(model)[name], array)


def test_a_program_takes_any_batch_and_length(tmp_path, monkeypatch):
    run = run_of(tmp_path, small_config())
    monkeypatch.setattr(experiments, "load_run", lambda _: run)
    path = tmp_path / "parity.bin"
    arguments = ["export", "run", "--format", "stablehlo", str(path), "--json"]
    result = CliRunner().invoke(experiments.cli.app, arguments)
    assert (result.exit_code, json.loads(result.stdout)) == (0, str(path))
    program = load_program(path)
    assert [str(size) for size in program.in_avals[0].shape] == ["batch", "length"]
    tokens = jnp.array([[0, 1, 1]], jnp.int32)
    np.testing.assert_allclose(program.call(tokens), run.model(tokens), rtol=1e-4, atol=1e-5)


def test_a_program_of_a_mixer_that_needs_a_length(tmp_path):
    run = run_of(tmp_path, override(default_config("parity"), ["width=8", "mixer=delta_net"]))
    with pytest.raises(RunError, match="try it with --size"):
        export_run(run, tmp_path / "parity.stablehlo")
    path = export_run(run, tmp_path / "parity.stablehlo", size=4)
    assert load_program(path).in_avals[0].shape[1:] == (4,)


def test_a_program_of_a_graph_model_takes_a_batch_of_graphs(tmp_path):
    words = ["width=8", "num_blocks=1", "mixer=gin", "training.batch_size=4", "stages=[[2,2000]]"]
    run = run_of(tmp_path, override(default_config("dag_boolean"), words))
    program = load_program(export_run(run, tmp_path / "boolean.stablehlo", graphs=2))
    drawn = run.task.draw(0, 2, 2)
    graph = line_graph(drawn.edge_index, len(drawn.nodes), mode="PD", graph=drawn.graph)
    inputs = GraphInputs(graph, drawn.nodes)
    logits = program.call(graph_arrays(program, inputs))
    expected = run.model(inputs)
    assert logits.shape[0] > len(expected)
    np.testing.assert_allclose(logits[: len(expected)], expected, rtol=1e-4, atol=1e-5)


def test_a_program_says_attributes_in_the_units_of_the_file(tmp_path):
    options = {"data": str(write_tu(tmp_path / "TRI")), "target": "attribute", "num_folds": 3}
    words = ["width=8", "num_blocks=1", "mixer=gin", "training.batch_size=4"]
    run = run_of(tmp_path, override(default_config("tu", **options), words))
    program = load_program(export_run(run, tmp_path / "tri.stablehlo"))
    chosen = run.task.part.test[:4]
    some = run.task.graphs.batch(chosen, run.task.attributes)
    graph = line_graph(some.edge_index, len(some.nodes), mode="PD", graph=some.graph)
    inputs = GraphInputs(graph, some.nodes)
    found = program.call(graph_arrays(program, inputs))
    errors = np.asarray(found)[:4] - some.targets
    mae = run.task.measured(chosen, np.asarray(run.model(inputs)))["mae"]
    assert abs(errors).mean() == pytest.approx(mae, rel=1e-4)
    path = export_run(run, tmp_path / "tri.safetensors")
    scaling = yaml.safe_load(read_metadata(path)["attributes"])
    assert scaling["mean"] == run.task.scaling.mean.tolist()
    with pytest.raises(ConfigError, match="those of files have their own"):
        export_run(run, tmp_path / "tri.stablehlo", size=3)


def test_options_that_do_not_go_together_are_refused(tmp_path):
    run = run_of(tmp_path, small_config())
    with pytest.raises(
        ConfigError, match="format: got 'onnx', expected one of safetensors, stablehlo"
    ):
        export_run(run, tmp_path / "parity.onnx")
    with pytest.raises(ConfigError, match="for programs, not for safetensors"):
        export_run(run, tmp_path / "parity.safetensors", size=3)
    with pytest.raises(ConfigError, match="for graph models"):
        export_run(run, tmp_path / "parity.stablehlo", graphs=3)
    with pytest.raises(ConfigError, match="platform: got 'gpu', expected one of cpu, cuda"):
        export_run(run, tmp_path / "parity.stablehlo", platforms=["gpu"])
