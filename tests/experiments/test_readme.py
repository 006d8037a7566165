"""The README's commands and code are ones that work."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from experiments import read_config
from experiments.cli import app
from experiments.commands import choose_config
from experiments.sweep_commands import choose_sweep
from experiments.sweeps.sweep import from_document, read_sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STATE_TRACKING = (ROOT / "docs" / "state_tracking.md").read_text(encoding="utf-8")
GRAPHS = (ROOT / "docs" / "graphs.md").read_text(encoding="utf-8")
GRIDS = (ROOT / "docs" / "grids.md").read_text(encoding="utf-8")
SWEEPS = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
TASKS = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def commands_in(text):
    return [line.partition("  #")[0] for line in re.findall(r"^plstm-seq (.*)$", text, re.M)]


COMMANDS = commands_in(README)
TRAINING = [
    command
    for page in (README, TASKS, GRIDS, GRAPHS)
    for command in commands_in(page)
    if command.startswith("train ")
    and not any(word in command for word in ("--resume", "--dry-run", "data="))
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
        "sweep",
        "results",
        "compare",
        "report",
    }


@pytest.mark.parametrize(
    "command", [c for c in (*COMMANDS, *commands_in(SWEEPS)) if c.startswith("sweep ")]
)
def test_sweeps_are_valid(command):
    result = CliRunner().invoke(app, [*shlex.split(command), "--dry-run", "--json"])
    assert result.exit_code == 0, result.stderr


def test_the_sweep_in_yaml_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", SWEEPS, re.S)
    assert len(from_document(yaml.safe_load(text)).configs()) == 16


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=shlex.split(command)[-1])
        for command in commands_in(STATE_TRACKING)
        if command.startswith("sweep ")
    ],
)
def test_the_command_of_a_record_is_what_made_it(command):
    _, task, *words, _, name = shlex.split(command)
    kept = read_sweep(ROOT / "results" / name / "sweep.yaml")
    assert choose_sweep(task, words, None, []).configs() == kept.configs()


@pytest.mark.parametrize(("name", "folder"), [("boolean", "plstm"), ("boolean-gin", "gin")])
def test_the_command_of_a_graph_run_is_what_made_it(name, folder):
    (command,) = [c for c in commands_in(GRAPHS) if c.endswith(f"--name {name}")]
    _, task, *words = shlex.split(command)[:-2]
    kept = read_config(ROOT / "results" / "dag_boolean" / folder / "config.yaml")
    assert choose_config(task, words, None, None, resume=False) == kept


def test_the_command_of_an_image_run_is_what_made_it():
    (command,) = [c for c in commands_in(GRIDS) if c.endswith("--name pointing")]
    _, task, *words = shlex.split(command)[:-2]
    kept = read_config(ROOT / "results" / "arrow_pointing_cpu" / "seed_0" / "config.yaml")
    assert choose_config(task, words, None, None, resume=False) == kept


def test_the_layer_example_runs():
    examples = re.findall(r"```python\n(.*?)```", README, re.S)
    (layer,) = [code for code in examples if "PLSTM1DLayer(" in code]
    names: dict = {}
    exec(layer, names)
    assert names["y"].shape == (2, 100, 64)
    assert names["y_next"].shape == (2, 64)


def test_training_goes_on_from_weights_written_down():
    page = (ROOT / "docs" / "probing.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "fit(" in code]
    names: dict = {}
    exec(code.replace("A5", "S3").replace("steps=20", "steps=2"), names)
    assert (names["result"].status, names["result"].step) == ("finished", 2)


def test_what_else_probing_shows_runs():
    page = (ROOT / "docs" / "probing.md").read_text(encoding="utf-8")
    rest = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "fit(" not in code]
    assert len(rest) == 2
    for code in rest:
        exec(code, {})  # they assert what they say


def test_the_files_of_the_walk_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|yaml))`", page)) - {"config.yaml"}
    assert len(named) > 30
    files = [
        str(path.relative_to(ROOT))
        for package in ("plstm_seq", "tasks", "experiments", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
    ]
    assert [
        name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)
    ] == []


IMPORTS = [
    line
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for line in re.findall(r"^from \w[\w.]* import .*$", path.read_text(encoding="utf-8"), re.M)
]


@pytest.mark.parametrize("line", IMPORTS, ids=lambda line: line.split()[1])
def test_what_the_docs_import_exists(line):
    exec(line, {})


MAKE = shutil.which("make")
TOOLS = ("pytest", "ruff", "basedpyright", "lint-imports", "python notebooks", "python tests")


def recipe(target):
    """What make would do for a target on a fresh machine."""
    command = [str(MAKE), "--dry-run", "--always-make", "--no-print-directory", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
@pytest.mark.parametrize(
    "target", re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
)
def test_a_target_installs_what_it_needs_first(target):
    steps = recipe(target)
    needing = [steps.find(f"/bin/{tool}") for tool in TOOLS if f"/bin/{tool}" in steps]
    if needing:
        assert 0 <= steps.find("--group dev") < min(needing)
    else:
        assert "--group dev" not in steps


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
def test_the_quickstart_installs_what_runs_it_alone():
    steps = recipe("quickstart").splitlines()
    assert [step for step in steps if "pip install" in step][-1].endswith(" --editable .")
    assert steps[-1].endswith("/bin/plstm-seq quickstart")


def test_pages_name_files_that_exist():
    """Every link of the README and of docs/ that stays in the repository, and its heading."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, heading = target.partition("#")
            path = (page.parent / name) if name else page
            assert path.exists(), f"{page.name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
                slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
                assert heading in slugs, f"{page.name}: {target}"
