"""The commands: what they print, their exit codes, and that a mistake writes nothing."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from small_run import SMALL
from typer.main import get_command
from typer.testing import CliRunner

import experiments
import experiments.cli
import plstm_seq
from experiments.exporting import export_run
from experiments.problems import make_task, task_names
from plstm_seq.training import NonFiniteLossError


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(experiments.cli.app, arguments, **options)


def test_version(command):
    result = command("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, plstm_seq.__version__)


def test_every_command_has_help(command):
    training = ("tasks", "train", "evaluate", "decode", "plot", "quickstart", "tune")
    for name in (*training, "sweep", "status", "resume", "results", "compare", "report"):
        result = command(name, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.stdout


SLOW_TO_IMPORT = {"jax", "flax", "optax", "orbax", "polars", "matplotlib", "pydantic", "networkx"}
HELP = """
import sys
from typer.testing import CliRunner
import experiments.cli
result = CliRunner().invoke(experiments.cli.app, ["--help"])
assert (result.exit_code, result.exception) == (0, None)
assert "Usage" in result.stdout
print(*sys.modules)
"""


def test_help_waits_for_nothing_that_takes_long_to_import():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HELP], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert not loaded & SLOW_TO_IMPORT


def test_names_of_the_package_are_imported_when_asked_for():
    for module, names in experiments._MODULES.items():
        for name in names:
            defined = getattr(import_module(f"experiments.{module}"), name)
            assert getattr(experiments, name) is defined
    assert sorted(experiments._MODULE_OF) == experiments.__all__
    assert set(experiments.__all__) <= set(dir(experiments))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        experiments.trian  # noqa: B018


def test_no_name_of_the_package_is_also_a_module_of_it():
    modules = {path.stem for path in Path(experiments.__file__).parent.iterdir()}
    assert not modules & set(experiments.__all__)


def test_tasks(command):
    assert "s5_word_problem" in command("tasks").stdout
    rows = json.loads(command("tasks", "list", "--json").stdout)
    assert {row["name"] for row in rows} >= {"parity", "cycle_navigation"}
    assert json.loads(command("tasks", "--json").stdout) == rows


def test_tasks_show(command):
    shown = command("tasks", "show", "modular_arithmetic", "modulus=3", "--length", "5")
    assert shown.exit_code == 0
    data = json.loads(command("tasks", "show", "parity", "--count", "2", "--json").stdout)
    assert data["vocabulary"] == ["0", "1"]
    for example in data["examples"]:
        ones = [int(bit) for bit in example["inputs"]]
        expected = [str(sum(ones[: i + 1]) % 2) for i in range(len(ones))]
        assert [data["labels"].index(x) for x in example["labels"].split()] == [
            int(x) for x in expected
        ]


@pytest.mark.parametrize("name", task_names())
def test_tasks_show_leaves_out_the_example_in_python(command, monkeypatch, name):
    monkeypatch.setattr("experiments.show.demands", lambda _: None)  # these take a while
    monkeypatch.setattr("experiments.show._examples", lambda *_: [])
    shown = command("tasks", "show", name)
    assert shown.exit_code == 0
    assert make_task(name).name in shown.stdout
    assert "Example:" not in shown.stdout
    assert ">>>" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "paritty"], "nearest: parity"),
        (["train", "parity", "trnsition.dim=3"], "nearest: transition.dim"),
        (["train", "parity", "steps=many"], "training.steps"),
        (["train"], "a task or --config is needed"),
        (["train", "--resume"], "--resume needs --name"),
        (["train", "--resume", "--name", "none"], "no run at 'runs/none'"),
        (["train", "--config", "none.yaml"], "No such file"),
        (["tasks", "show", "paritty"], "nearest: parity"),
        (["tasks", "show", "parity", "modulus=3"], "no option 'modulus'"),
        (["evaluate", "none"], "no run at 'none'"),
        (["decode", "none", "01"], "no run at 'none'"),
        (["plot", "none"], "no run at 'none'"),
        (["plot"], "Missing argument"),
        (["quickstart", "--seeds", "0..x"], "expected whole numbers such as 0..2"),
        (["quickstart", "--seeds", "-1"], "expected whole numbers such as 0..2"),
        (["train", "parity", "--nme", "x"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_2_and_write_nothing(command, tmp_path, arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_a_config_that_can_be_trained(command, tmp_path):
    result = command("train", "parity", *SMALL, "--dry-run")
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []
    Path("config.yaml").write_text(result.stdout)
    again = command("train", "--config", "config.yaml", "--dry-run")
    assert again.stdout == result.stdout
    changed = command("train", "seed=3", "--config", "config.yaml", "--dry-run")
    assert "seed: 3" in changed.stdout
    full = command("train", "parity", *SMALL, "--full").stdout
    Path("config.yaml").write_text(full)
    assert command("train", "--config", "config.yaml", "--dry-run").stdout == result.stdout
    assert len(full.splitlines()) > 3 * len(result.stdout.splitlines())


def test_from_training_to_the_figure(command):
    trained = command("train", "parity", *SMALL, "--json")
    assert trained.exit_code == 0, trained.stderr
    summary = json.loads(trained.stdout)
    assert summary["run"] == "runs/parity-1"
    assert (summary["status"], summary["step"]) == ("finished", 6)

    rows = json.loads(command("evaluate", "parity-1", "--lengths", "3,8", "--json").stdout)
    assert {row["length"] for row in rows} == {3, 8}
    assert "horizon" in command("evaluate", "runs/parity-1").stdout
    assert "snapped to learned" in command("evaluate", "parity-1", "--snap", "4").stdout
    assert command("evaluate", "parity-1", "--lengths", "3;8").exit_code == 2
    assert command("evaluate", "parity-1", "--lengths", "0").exit_code == 2

    decoded = json.loads(command("decode", "parity-1", "0110", "--json").stdout)
    assert [entry["symbol"] for entry in decoded] == list("0110")
    piped = command("decode", "parity-1", "--json", input="01\n\n1 1\n")
    assert [len(json.loads(line)) for line in piped.stdout.splitlines()] == [2, 2]
    assert command("decode", "parity-1", "012").exit_code == 2

    drawn = command("plot", "parity-1", "--output", "figure", "--json")
    assert json.loads(drawn.stdout) == ["figure.png", "figure.svg"]

    named = command("train", "parity", *SMALL, "--name", "mine")
    assert "next: plstm-seq evaluate runs/mine" in named.stdout
    refused = command("train", "parity", *SMALL, "--name", "mine")
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert command("train", "--name", "mine", "--resume").exit_code == 0
    mixed = command("train", "parity", "seed=3", "--name", "mine", "--resume")
    assert mixed.exit_code == 2
    assert "as it is" in mixed.stderr


def test_an_interruption_says_how_to_resume(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.commands.fit_and_report", interrupted)
    result = command("train", "parity", *SMALL)
    assert result.exit_code == 130
    assert "plstm-seq train --name parity-1 --resume" in result.stderr


def test_divergence_ends_with_1(command, monkeypatch):
    def diverged(*_):
        raise NonFiniteLossError(3, float("nan"), 1.0, 2)

    monkeypatch.setattr("experiments.commands.fit_and_report", diverged)
    result = command("train", "parity", *SMALL)
    assert result.exit_code == 1
    assert "step 3" in result.stderr


def test_an_implementation_for_other_machines_is_refused(command):
    for name in ("pallas_gpu", "pallas_gpu_small"):
        refused = command("train", "parity", *SMALL, f"implementation={name}")
        assert refused.exit_code == 2
        assert "error: needs" in refused.stderr
        assert "without implementation=... one that runs here is taken" in refused.stderr


@pytest.mark.parametrize(
    ("environment", "words", "code", "message"),
    [
        ({"JAX_PLATFORMS": "nonsense"}, ("tasks", "show", "parity"), 2, "JAX_PLATFORMS=nonsense"),
        (
            {"JAX_PLATFORMS": "cuda"},
            ("train", "parity", *SMALL),
            2,
            "JAX_PLATFORMS=cuda: jax cannot",
        ),
        ({"PYTHONIOENCODING": "ascii"}, ("tasks", "list"), 0, ""),
        ({"PYTHONIOENCODING": "ascii"}, ("tasks", "show", "s3_word_problem"), 0, ""),
    ],
    ids=["unknown", "absent", "list", "show"],
)
def test_an_unusual_environment_is_one_line(environment, words, code, message, tmp_path):
    program = "from experiments.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **environment, "COLUMNS": "80"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len(done.stderr) < 500
    assert "Traceback" not in done.stderr


def test_a_run_may_be_named_wherever_python_takes_one(command):
    assert command("train", "parity", *SMALL, "--name", "mine").exit_code == 0
    experiments.evaluate("mine", [3, 8], progress=False)
    assert len(experiments.decode(Path("runs/mine"), "011")) == 3
    files = experiments.plot("mine", "figure.png")
    assert list(map(str, files)) == ["figure.png", "figure.svg"]
    assert experiments.plot([Path("runs/mine"), "mine"], Path("two"))[0] == Path("two.png")
    assert export_run("mine", "mine.safetensors").exists()
    assert experiments.probe("mine", only=["gates"])
    with pytest.raises(experiments.RunError, match="no run at 'mind'"):
        experiments.round_run("mind")


@pytest.mark.parametrize("name", ["tasks", "experiments"])
@pytest.mark.parametrize("form", ["package", "module"])
def test_a_package_of_the_same_name_is_named_in_one_line(tmp_path, name, form):
    hiding = tmp_path / name / "__init__.py" if form == "package" else tmp_path / f"{name}.py"
    hiding.parent.mkdir(exist_ok=True)
    hiding.write_text("")
    message = f"the package {name} of plstm-seq is hidden by {hiding}: rename that one, or start"

    def run(program):
        return subprocess.run(
            [sys.executable, "-c", program, "tasks", "list"],
            cwd=tmp_path,  # which Python looks into first
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("from plstm_seq.command import main; main()")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    if name == "tasks":
        done = run("import experiments")
        assert f"ImportError: {message}" in done.stderr
    assert run("import plstm_seq.models").returncode == 0


@pytest.mark.parametrize("task", [*task_names(), "word_problem"])
def test_a_quick_run_of_any_task_is_one_of_50_steps(command, task):
    shown = command("train", task, "--quick", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    config = yaml.safe_load(shown.stdout)
    training = config["training"]
    assert training["steps"] <= 60
    assert training["batch_size"] <= 32
    assert sum(steps for _, steps in training["curriculum"].get("stages", ())) <= 60
    assert config["evaluation"]["num_sequences"] <= 64


def test_a_quick_run_is_trained_and_evaluated(command):
    assert command("train", "s3_word_problem", "--quick", "--name", "mine").exit_code == 0
    assert command("evaluate", "mine").exit_code == 0
    assert command("train", "--name", "mine", "--resume", "--quick").exit_code == 2


@pytest.mark.parametrize("program", ["train", "sweep"])
def test_a_warm_up_beyond_the_training_is_said(command, program):
    words = (program, "parity", "steps=20", "stages=[[4,20]]", "learning_rate=1e-3", "--dry-run")
    warned = command(*words, "warmup_steps=50")
    assert warned.exit_code == 0
    assert "is beyond the training's 20 steps: its rate ends at 0.4" in warned.stderr
    assert command(*words, "warmup_steps=20").stderr == ""


def test_flags_do_not_look_as_if_they_took_a_value():
    """Walks every command; `--help` and completion are typer's own."""

    def walk(one, path=""):
        for parameter in one.params:
            if getattr(parameter, "is_flag", False):
                yield f"{path} {parameter.name}", parameter.metavar
        for name, below in getattr(one, "commands", {}).items():
            yield from walk(below, f"{path} {name}")

    flags = dict(walk(get_command(experiments.cli.app)))
    assert len(flags) > 20
    own = {name: shown for name, shown in flags.items() if "completion" not in name}
    assert [name for name, shown in own.items() if shown != ""] == []


def test_every_task_is_a_line_and_no_name_is_cut(command, monkeypatch):
    rows = json.loads(command("tasks", "--json").stdout)
    for width in (80, 300):
        monkeypatch.setattr(experiments.cli.out, "width", width)
        lines = command("tasks").stdout.splitlines()
        assert max(map(len, lines)) <= width
        firsts = [line.split()[0] for line in lines if line]
        for row in rows:
            assert firsts.count(row["name"]) == 1
