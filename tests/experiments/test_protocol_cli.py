"""`protocol list`, `run` and `table`; and `--generators` of `train` and `sweep`."""

import json

import pytest
from typer.testing import CliRunner

import experiments.cli
from experiments import scalars
from experiments.protocols import names

TINY = (
    "width=8",
    "model.mixer.num_heads=1",
    "implementation=recurrent",
    "transition=diagonal",
    "training.batch_size=4",
    "num_blocks=1",
    "evaluation.lengths=[4]",
    "evaluation.num_sequences=4",
    "evaluation.mixture=[4, 6]",
    "evaluation.mixture_sequences=6",
)
RUN = ("run", "chomsky_regular", "--task", "parity", "--scale", "1e-5", "--seeds", "0..1")
CYCLES = "(0 1)(2 3),(0 1 2 3 4)"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(experiments.cli.app, arguments)


def test_list_shows_all_and_one(command):
    rows = json.loads(command("protocol", "list", "--json").stdout)
    assert [row["name"] for row in rows] == names()
    assert "chomsky_regular" in command("protocol", "list").stdout
    shown = command("protocol", "list", "chomsky_regular")
    assert "arXiv 2411.12537" in shown.stdout
    assert "Here:" in shown.stdout
    about = json.loads(command("protocol", "list", "chomsky_regular", "--json").stdout)
    assert about["rates"] == [0.01, 0.001, 0.0005, 0.0001]
    assert about["differences"]


def test_a_dry_run_names_cells_and_writes_nothing(command, tmp_path):
    models = ("--model", "plstm,transition.dim=4", "--model", "lstm")
    result = command("protocol", *RUN, *models, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    cells = json.loads(result.stdout)
    assert [cell["model"] for cell in cells] == ["plstm,transition.dim=4", "lstm"]
    assert cells[1] == {
        "model": "lstm",
        "task": "parity",
        "scale": 1e-5,
        "members": 8,
        "programs": 1,
        "steps": 1,
        "batch": 1024,
        "folder": "sweeps/chomsky_regular/scale-1e-05/lstm/parity,seeds=0+1",
    }
    assert "plstm  parity        8" in command("protocol", *RUN, "--dry-run").stdout
    assert list(tmp_path.iterdir()) == []


def test_a_cell_runs_goes_on_and_stands_beside_the_published_rows(command):
    ours = ("protocol", *RUN, "--rates", "1e-3", *TINY)
    result = command(*ours)
    assert result.exit_code == 0, result.stderr
    assert "next: plstm-seq protocol table chomsky_regular" in result.stdout
    again = command(*ours, "--json")
    assert "g00" not in again.stderr  # nothing is left to do
    (folder,) = json.loads(again.stdout)["sweeps"]
    assert json.loads(command("status", folder, "--json").stdout)[0]["evaluated"]

    table = command("protocol", "table", "chomsky_regular").stdout
    assert "DeltaNet [-1,1]" in table
    assert "0.971 / 0.826 ± 0.146" in table
    line = next(line for line in table.splitlines() if "here, scaled 1e-05" in line)
    assert line.count("not run") == 2
    assert "2 of 2 members a number (published: 12), learning rate 0.001; cpu, jax" in table
    assert "not run: modular_arithmetic, modular_arithmetic_brackets" in table

    data = json.loads(command("protocol", "table", "chomsky_regular", "--json").stdout)
    own = [row for row in data["rows"] if row["origin"] == "here"]
    assert [row["statistic"] for row in own] == ["best", "median"]
    assert {row["scale"] for row in own} == {1e-5}
    assert own[0]["device"] == "cpu"
    assert own[0]["date"]
    assert -1 <= own[0]["value"] <= 1
    assert data["not_run"] == ["modular_arithmetic", "modular_arithmetic_brackets"]
    for form, text in (("csv", "model,origin"), ("latex", r"\toprule"), ("markdown", "| :-- |")):
        shown = command("protocol", "table", "chomsky_regular", "--format", form).stdout
        assert text in shown
        assert "scaled 1e-05" in shown or form == "csv"
    other = command("protocol", "table", "chomsky_regular", "--scale", "1").stdout
    assert "here" not in other
    written = command("protocol", "table", "chomsky_regular", "--output", "a/table.md")
    assert written.stdout.strip() == "wrote a/table.md"


def test_published_depths_and_horizons_are_whole(command):
    depths = command("protocol", "table", "merrill_depth").stdout.splitlines()
    assert depths[1].split() == ["Z60", "RNN", "paper,", "off", "a", "figure", "1"]
    horizons = command("protocol", "table", "error_control").stdout.splitlines()
    assert horizons[1].split() == ["Mamba", "paper", "0", "0", "0", "60", "60", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "chomsky"], "no protocol 'chomsky'; nearest: chomsky_regular"),
        (["table", "chomsky"], "no protocol 'chomsky'; nearest: chomsky_regular"),
        (["run", "deletang", "--task", "sorting"], "deletang has no task 'sorting'"),
        (
            ["run", "deletang", "--seeds", "a"],
            "--seeds: got 'a', expected whole numbers such as 0..2",
        ),
        (
            ["run", "deletang", "--rates", "0"],
            "--rates: got '0', expected learning rates such as 1e-3",
        ),
        (["run", "a5_length", "--model", "lstm,widht=3"], "unknown field 'widht'; nearest: width"),
        (["table", "deletang", "--format", "pdf"], "one of table, csv, latex, markdown"),
        (["table", "deletang", "--scale", "0"], "scale: got 0, expected a number above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_2(command, tmp_path, arguments, message):
    result = command("protocol", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_group_from_generators(command):
    trained = command("train", "word_problem", "--generators", CYCLES, "--dry-run")
    assert trained.exit_code == 0, trained.stderr
    task = scalars.load(trained.stdout)["task"]
    assert task == {"name": "word_problem", "group": f"<{CYCLES}>", "generators": "standard"}
    every = command(
        "train", "word_problem", "task.generators=all", "--generators", CYCLES, "--dry-run"
    )
    assert "generators: all" in every.stdout
    swept = command("sweep", "word_problem", "seed=0..1", "--generators", CYCLES, "--dry-run")
    assert "2 members in 1 group" in swept.stdout
    wrong = command("train", "word_problem", "--generators", "(0 1", "--dry-run")
    assert wrong.exit_code == 2
    assert "expected cycles such as" in wrong.stderr
    other = command("train", "parity", "--generators", CYCLES, "--dry-run")
    assert other.exit_code == 2
    assert "task 'parity' has no option 'group'" in other.stderr
