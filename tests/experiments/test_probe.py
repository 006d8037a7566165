"""Probing a run, by the function that a notebook calls and by the command."""

import json

import numpy as np
import pytest
from small_run import SMALL, small_config
from typer.testing import CliRunner

import tasks
from experiments import RunError, default_config, override, train
from experiments.cli import app
from experiments.probing import PROBES, probe, task_group
from experiments.run import Run, new_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "s3"
    return train(small_config("s3_word_problem", "steps=2"), folder, progress=False)


def test_every_probe_of_a_run(run, tmp_path):
    found = probe(run, output=tmp_path)
    assert list(found) == list(PROBES)
    for name in PROBES:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    written = json.loads((tmp_path / "probes.json").read_text())
    assert list(written) == list(PROBES)
    assert written["group"]["complexity"] == "TC0"
    assert written["group"]["smallest_dim"] == 2
    assert written["exact"]["matrices, float32"]["horizon"].startswith(">=")
    assert np.shape(written["homomorphism"]["worst_defect"]) == (1, 1)
    assert found["sensitivity"].result.changed.shape == (16, 5)


def test_what_does_not_suit_a_run_is_left_out_and_told(tmp_path):
    small = [word for word in SMALL if not word.startswith(("num_heads", "implementation"))]
    run, told = Run(tmp_path, override(default_config("parity"), ["mixer=lstm", *small])), []
    run.__dict__["model"] = new_model(run.config)
    found = probe(run, announce=told.append)
    assert {"group", "linear", "separability", "sensitivity"} == set(found)
    assert len(told) == len(PROBES) - len(found)
    assert any(text.startswith("gates: left out: model: got one without") for text in told)
    assert (run.folder / "probes" / "linear.png").exists()
    with pytest.raises(RunError, match="pLSTM"):
        probe(run, only=["spectrum"])


def test_the_command(run, tmp_path):
    folder = str(run.folder)
    arguments = ["probe", folder, "--only", "spectrum", "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    assert "distance_from_orthogonal" in json.loads(result.stdout)["spectrum"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "probes.json",
        "spectrum.png",
        "spectrum.svg",
    ]
    result = CliRunner().invoke(app, arguments)
    assert "smallest singular value" in result.stdout
    result = CliRunner().invoke(app, ["probe", folder, "--only", "spektrum"])
    assert result.exit_code == 2
    assert "nearest: spectrum" in result.stderr


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("parity", {}, 2),
        ("cycle_navigation", {}, 5),
        ("s3_word_problem", {"composition": "left"}, 6),
        ("word_problem", {"group": "S4", "generators": ["(123)", "(12)(34)"]}, 12),
        ("random_automaton", {"kind": "permutation", "states": 4}, None),
    ],
)
def test_the_group_behind_a_task_says_what_its_labels_say(name, options, order):
    task = tasks.get(name, **options)
    found = task_group(task)
    assert found is not None
    assert order is None or len(found.elements) == order
    rows = np.random.default_rng(0).integers(len(task.vocabulary), size=(50, 6))
    products = np.zeros(50, int)
    for column in rows.T:
        step = np.array(found.symbols)[column]
        pair = (products, step) if found.composition == "right" else (step, products)
        products = found.table[pair]
    labels = np.asarray(task.targets(rows))[:, -1]
    # An element has one label: the rule is a function of the product.
    assert len({*zip(products.tolist(), labels.tolist(), strict=True)}) == len({*products.tolist()})


@pytest.mark.parametrize(
    ("name", "options"),
    [("flip_flop", {}), ("reverse_string", {}), ("s3_word_problem", {"tokens_per_transition": 2})],
)
def test_tasks_without_a_group(name, options):
    assert task_group(tasks.get(name, **options)) is None
