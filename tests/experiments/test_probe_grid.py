"""Probing a run over images or grids of symbols: its gates over an example."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import experiments
from experiments import RunError, default_config, override
from experiments.cli import app
from experiments.probing import PROBES, probe
from experiments.run import Run, new_model

SHARED = ("width=8", "num_blocks=2", "mixer.num_heads=2")
IMAGES = ("task.scale=0.2", "patch_size=20", "position_grid=[2,2]", "stages=[[40,4]]")


def run_of(folder, task, *words):
    """A run whose model is as it was made, as if from a checkpoint."""
    run = Run(folder, override(default_config(task), [*SHARED, *words]))
    run.__dict__["model"] = new_model(run.config)
    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("images"), "arrow_pointing", *IMAGES)


def test_gates_are_drawn_over_an_image_and_other_probes_left_out(images, tmp_path):
    told = []
    found = probe(images, output=tmp_path, announce=told.append)
    assert list(found) == ["gates"]
    assert told == [f"{name}: left out: it is for models of sequences" for name in list(PROBES)[1:]]
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert "orientation" in (tmp_path / "gates.svg").read_text()
    summary = json.loads((tmp_path / "probes.json").read_text())["gates"]
    assert (summary["block"], summary["mode"]) == (0, "P")
    assert list(summary["mean"]) == ["orientation", "source", "transition", "mark", "direct"]
    assert summary["mean"]["orientation"] == pytest.approx(0.5)
    with pytest.raises(RunError, match="for models of sequences"):
        probe(images, only=["spectrum"])


def test_the_command_draws_the_gates_of_a_block(images, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "load_run", lambda _: images)
    command = ["probe", "run", "--only", "gates", "--output", str(tmp_path), "--json", "--block"]
    result = CliRunner().invoke(app, [*command, "1"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)["gates"]
    assert (summary["block"], summary["mode"]) == (1, "D")
    assert "transition_turn" in summary["mean"]
    result = CliRunner().invoke(app, [*command, "2"])
    assert result.exit_code == 2
    assert "no pLSTM layer in block 2: they are in 0, 1" in " ".join(result.stderr.split())


def test_a_gate_that_is_a_matrix_is_one_number_a_cell(tmp_path):
    run = run_of(tmp_path, "grid_parity", "num_blocks=1", "stages=[[3,4]]")
    found = probe(run)["gates"]
    layer = found.result.layers[0]
    assert layer.gates["transition_right"].shape == (8, 2, 4, 3, 3, 2, 2)
    mean = np.trace(layer.gates["transition_right"], axis1=-2, axis2=-1).mean() / 2
    assert found.summary["mean"]["transition_right"] == pytest.approx(mean)
    assert (tmp_path / "probes" / "gates.png").exists()


def test_models_without_gates_over_grids_say_so(tmp_path):
    run = run_of(tmp_path, "arrow_pointing", *IMAGES, "mixer=attention", "pooling=cls")
    told = []
    assert probe(run, announce=told.append) == {}
    assert told[0].startswith("gates: left out: model: got one without a pLSTM layer")
    with pytest.raises(RunError, match="GraphModel: probes are for models of sequences and"):
        probe(run_of(tmp_path, "dag_boolean"))
