"""`train --mesh` and `--tracker`, in processes of their own; `sweep --match`."""

import json
import os
import socket
import subprocess
import sys

import pytest
from processes import QUICK_FLAGS, ROOT
from small_run import SMALL
from typer.testing import CliRunner

import experiments.cli
from experiments import default_config, load_run, override
from experiments.config import ConfigError
from experiments.distributed import make_mesh
from experiments.sweeps import product, vary
from experiments.sweeps.matching import match_costs
from experiments.sweeps.plan import plan
from experiments.sweeps.sweep import Sweep

pytestmark = pytest.mark.slow

TRAIN = ("train", "parity", *SMALL, "--name", "run")


def start(folder, *arguments, devices=1, **environment):
    flags = [f"--xla_force_host_platform_device_count={devices}", *QUICK_FLAGS]
    return subprocess.Popen(
        [sys.executable, "-c", "from experiments.cli import main; main()", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": " ".join(flags),
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def losses(folder):
    return [record["loss"] for record in load_run(folder / "runs" / "run").metrics]


def test_a_run_on_two_devices_and_in_two_processes(tmp_path):
    """The losses are those of one device; one process writes the records."""
    folders = {name: tmp_path / name for name in ("one", "devices", "processes")}
    for folder in folders.values():
        folder.mkdir()
    end(start(folders["one"], *TRAIN))
    end(start(folders["devices"], *TRAIN, "--mesh", "data=2", devices=2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": address}
    both = [
        start(folders["processes"], *TRAIN, "--mesh", "data=all", JAX_PROCESS_ID=str(rank), **job)
        for rank in range(2)
    ]
    for process in both:
        end(process)
    expected = losses(folders["one"])
    assert len(expected) == 3
    for name in ("devices", "processes"):
        assert losses(folders[name]) == pytest.approx(expected, rel=1e-5)
    assert load_run(folders["processes"] / "runs" / "run").status.status == "finished"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "--mesh: got '8', expected data=NUMBER or data=all"),
        ("model=2", "expected data=NUMBER or data=all"),
        ("data=-1", "expected data=NUMBER or data=all"),
        ("data=64", "--mesh data: got 64, expected 1 to"),
    ],
)
def test_a_mesh_that_is_not_there(text, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(text)


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_PROCESS_ID", "x"), ("JAX_COORDINATOR_ADDRESS", None)]
)
def test_processes_that_do_not_find_each_other(monkeypatch, name, value):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS"):
        make_mesh("data=all")


def test_mistakes_end_with_2_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option, value, message in (
        ("--mesh", "data=x", "data=NUMBER"),
        ("--tracker", "wandbb", "wandb is the one"),
    ):
        result = CliRunner().invoke(experiments.cli.app, [*TRAIN, option, value])
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "runs").exists()


def test_matched_members_cost_the_same():
    """The solved size is part of the sweep's value, and of its names only where it must be."""
    base = override(default_config("parity"), [*SMALL, "mixer.DV=4"])
    sweep = Sweep(base, tuple(product(vary("transition.dim", [1, 2, 4]), vary("seed", [0, 1]))))
    lines = []
    matched = match_costs(sweep, "state", announce=lines.append)
    assert [setting["model.mixer.DV"] for setting in matched.settings] == [4, 4, 2, 2, 1, 1]
    assert len(lines) == 3
    sizes = {
        (c.model.mixer.transition.dim * c.model.mixer.DV, c.model.mixer.DK)
        for c in matched.configs()
    }
    assert len(sizes) == 1
    assert len(plan(matched).groups) == 3


def test_match_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "parity", *SMALL, "transition.dim=1,2", "--dry-run", "--json"]
    runner = CliRunner()
    result = runner.invoke(experiments.cli.app, [*words, "--match", "state"])
    assert result.exit_code == 0, result.stderr
    assert "DV 4 -> 2" in result.stderr
    assert len(json.loads(result.stdout)) > 0
    wrong = runner.invoke(experiments.cli.app, [*words, "--match", "size"])
    assert wrong.exit_code == 2
    assert "state, parameters, flops" in wrong.stderr
