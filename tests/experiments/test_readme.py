"""The README's commands and code are ones that work."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("  #")[0] for line in re.findall(r"^plstm-seq (.*)$", README, re.M)]
TRAINING = [
    command
    for command in COMMANDS
    if command.startswith("train ") and "--resume" not in command and "--dry-run" not in command
]


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands_are_valid(command):
    result = CliRunner().invoke(app, [*shlex.split(command), "--dry-run"])
    assert result.exit_code == 0, result.stderr


def test_every_command_is_shown():
    assert {command.split()[0] for command in COMMANDS} >= {
        "tasks",
        "train",
        "evaluate",
        "plot",
        "decode",
    }


def test_the_layer_example_runs():
    examples = re.findall(r"```python\n(.*?)```", README, re.S)
    (layer,) = [code for code in examples if "PLSTM1DLayer(" in code]
    names: dict = {}
    exec(layer, names)
    assert names["y"].shape == (2, 100, 64)
    assert names["y_next"].shape == (2, 64)
