"""Figures of sweeps: which are drawn, and that what they show is what was measured."""

import json

import numpy as np
import polars
import pytest
import typer
from fake_sweep import Fake, cost, make_sweep
from small_run import small_config
from typer.testing import CliRunner

from experiments import RunError, cli_results
from experiments.plotting import COLOURS, MARKERS
from experiments.results import figures, gather
from experiments.results.comparing import compare, drawings, gather_all
from experiments.results.export import readable_costs, summarize_costs
from experiments.results.figures import at_common_places, looks, training_curves
from experiments.results.summary import settings
from experiments.sweeps.rows import training_records


def result(config):
    dim, seed = config.model.mixer.transition.dim, config.seed
    rate = config.training.optimizer.learning_rate
    if (dim, seed) == (4, 2):
        return Fake(begun=False)
    right = min(100, 10 * dim * (seed + 1) + (40 if rate > 2e-3 else 0))
    accuracy = {4: (100, 100), 8: (right, 100), 16: (right // 2, 80)}
    records = ((2, 1.0, 0.1 * dim), (4, 1.0, 0.2 * dim), (6, 2.0, 0.25 * dim - seed / 100))
    return Fake(accuracy, "finished", None, records, cost(100 * dim, 8 * dim, 1e3 * dim, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    words = "transition.dim=1,2,4 learning_rate=1e-3,3e-3 seed=0..2"
    return make_sweep(tmp_path_factory.mktemp("sweeps") / "jt", words, result)


@pytest.fixture(scope="module")
def frame(folder):
    return gather(folder)


def lines(figure):
    """By label: x and y of what is in the legend."""
    axis = figure.axes[0]
    handles, labels = axis.get_legend_handles_labels()
    drawn = [handle if hasattr(handle, "get_xydata") else handle.lines[0] for handle in handles]
    return dict(zip(labels, (np.asarray(line.get_xydata()) for line in drawn), strict=True))


def test_accuracy_is_a_median_with_quartiles(frame):
    figure = figures.accuracy(frame, ["JT"])
    drawn = lines(figure)["JT = 1"]
    assert drawn[:, 0].tolist() == [4, 8, 16]
    # At length 8: 10, 20, 30 and 50, 60, 70 of 100.
    assert drawn[1, 1] == pytest.approx(0.4)
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    at_8 = [y for x, y in edge if x == 8]
    assert (min(at_8), max(at_8)) == pytest.approx((0.225, 0.575))


def test_chance_and_training_length_are_marked(frame):
    positions = {
        metric: [
            line.get_linestyle()
            for line in figures.accuracy(frame, ["JT"], metric).axes[0].lines[3:]
        ]
        for metric in ("token", "sequence")
    }
    assert positions == {"token": [":", "--"], "sequence": [":"]}


def test_horizons_are_medians_and_dots(frame):
    figure = figures.horizon(frame, ["JT", "learning_rate"])
    drawn = lines(figure)
    assert list(drawn) == ["learning rate = 0.001", "learning rate = 0.003"]
    # At length 8 and 0.003: 50, 60, 70; 60, 80, 100; 80, 100 of 100; nobody passes at 16.
    assert drawn["learning rate = 0.003"][:, 1].tolist() == [4, 4, 4]
    dots = [line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert sorted(dots) == [4] * 14 + [8] * 2


def test_solve_rates_have_wilson_intervals(frame):
    figure = figures.solve_rate(frame, length=8)
    drawn = lines(figure)
    assert list(drawn) == ["JT = 1", "JT = 2", "JT = 4"]
    assert drawn["JT = 2"][:, 1].tolist() == pytest.approx([0, 1 / 3])
    assert drawn["JT = 4"][:, 1].tolist() == pytest.approx([0, 1 / 2])


def test_accuracy_against_cost(frame):
    drawn = lines(figures.against_cost(frame, ["JT"], cost="flops_per_token", length=8))
    assert [x for ((x, _),) in drawn.values()] == pytest.approx([1000, 2000, 4000], rel=0.02)
    assert [y for ((_, y),) in drawn.values()] == pytest.approx([0.4, 0.6, 0.8])


def test_records_add_up_their_shares_of_the_time(folder):
    records = training_records(folder)
    own = records.filter(member="JT=2,learning_rate=0.001,seed=0")
    assert own["step"].to_list() == [2, 4, 6]
    assert own["seconds"].to_list() == [1.0, 2.0, 4.0]
    assert "JT=4,learning_rate=0.001,seed=2" not in set(records["member"])


def test_curves_keep_the_last_value_of_members_that_ended():
    records = polars.DataFrame(
        {"member": ["a", "a", "b"], "step": [2, 6, 4], "accuracy": [0.1, 0.3, 0.9]}
    )
    rows = at_common_places(records, "step", "accuracy")
    assert rows.rows() == [
        ("a", 2, 0.1),
        ("a", 4, 0.1),
        ("a", 6, 0.3),
        ("b", 4, 0.9),
        ("b", 6, 0.9),
    ]


def test_curves_are_medians_over_members(frame, folder):
    drawn = lines(training_curves(frame, training_records(folder), ["JT"]))
    assert drawn["JT = 2"].tolist() == pytest.approx(np.array([[2, 0.2], [4, 0.4], [6, 0.49]]))
    with pytest.raises(RunError, match="no member has begun to train"):
        training_curves(frame, training_records(folder).clear())


def test_settings_look_different(frame):
    chosen = list(
        settings(frame, ["model.mixer.transition.dim", "training.optimizer.learning_rate"])
    )
    drawn = [(look["color"], look["marker"], look["linestyle"]) for look in looks(chosen)]
    assert len(set(drawn)) == 6
    assert [pair[:2] for pair in drawn[::2]] == list(zip(COLOURS[:3], MARKERS[:3], strict=True))
    many = [chosen[0]._replace(values={"x": n}) for n in range(14)]
    assert len({(look["color"], look["linestyle"]) for look in looks(many)}) == 14


def test_costs_by_hand(frame):
    costs = summarize_costs(frame, ["JT"])
    assert costs["flops_per_token"].to_list() == [1000, 2000, 4000]
    shown = readable_costs(costs)
    assert shown.headers[:4] == ("JT", "parameters", "state", "FLOPs a token")
    assert shown.rows[1][:3] == ("2", "200 (+100%)", "16 (+100%)")
    assert shown.rows[2][-2:] == ("2", "0.0 MiB")


def test_figures_that_apply_are_drawn(folder, tmp_path):
    found = compare([folder], tmp_path / "new" / "figure", by=["JT", "learning_rate"])
    names = [file.name.removeprefix("figure_") for file in found.figures]
    costs = ("parameters", "state_size", "flops_per_token", "tokens_per_second")
    expected = ["accuracy", "token_accuracy", "horizon", "solve_rate"]
    expected += [*(f"cost_{name}" for name in costs), "steps", "time"]
    assert names == [f"{name}.{ending}" for name in expected for ending in ("png", "svg")]
    assert found.figures[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in found.figures[1].read_text()


def test_what_does_not_vary_is_not_drawn(tmp_path):
    folder = make_sweep(tmp_path / "seeds", "seed=0..1", lambda _: Fake({4: (9, 9)}, records=()))
    names = [drawing.name for drawing in drawings(*gather_all([folder]))]
    assert names == ["accuracy", "token_accuracy"]
    frame = gather(folder)
    with pytest.raises(RunError, match="JT does not vary"):
        figures.horizon(frame)
    with pytest.raises(RunError, match=r"no member has a cost\.json with parameters"):
        figures.against_cost(frame, length=4)


def test_costs_that_are_matched_are_no_axis(tmp_path):
    def matched(config):
        dim = config.model.mixer.transition.dim
        return Fake({4: (9, 9)}, records=(), cost=cost(1000 + dim, 64, 2000.0))

    folder = make_sweep(tmp_path / "matched", "transition.dim=1,2", matched)
    names = [drawing.name for drawing in drawings(*gather_all([folder]))]
    assert names == ["accuracy", "token_accuracy", "horizon"]


def test_each_task_has_its_own_figures(tmp_path):
    folders = [
        make_sweep(tmp_path / task, "transition.dim=1,2", result, base=small_config(task))
        for task in ("parity", "s3_word_problem")
    ]
    frame, records = gather_all(folders)
    assert set(frame["sweep"]) == {"parity", "s3_word_problem"}
    assert frame["member"].str.starts_with("parity/").any()
    found = {drawing.name: drawing for drawing in drawings(frame, records)}
    assert {"parity_accuracy", "s3_word_problem_accuracy", "parity_steps"} <= set(found)
    assert found["s3_word_problem_accuracy"].caption.startswith("s3 word problem: Sequence")
    assert list(lines(found["parity_accuracy"].draw())) == ["JT = 1", "JT = 2"]


def test_two_sweeps_of_one_task_are_told_apart(folder, tmp_path):
    other = make_sweep(tmp_path / "other", "seed=0..1", result)
    frame, _ = gather_all([folder, other])
    assert list(lines(figures.accuracy(frame, ["sweep"]))) == ["sweep = jt", "sweep = other"]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    app = typer.Typer()
    app.command()(cli_results.results)
    app.command()(cli_results.compare)
    app.command()(cli_results.report)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_results_command(command, folder, tmp_path):
    shown = command("results", folder, "--by", "transition.dim", "--length", "8")
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("JT  length    n   best   median ± MAD")
    # JT = 2: 20, 40, 60 and 60, 80, 100 of 100.
    assert lines[2].split()[:4] == ["2", "8", "6", "1.000"]
    assert "1/6" in lines[2]
    rows = json.loads(command("results", folder, "--length", "4,8", "--json").stdout)
    assert len(rows) == 12
    one = command("results", folder, "--where", "JT=2", "--where", "lr=1")
    assert (one.exit_code, "no column 'lr'" in one.stderr) == (2, True)
    narrow = command(
        "results",
        folder,
        "--where",
        "JT=2",
        "--where",
        "learning_rate=0.003",
        "--metric",
        "token",
        "--length",
        "16",
        "--format",
        "latex",
    )
    assert narrow.stdout.startswith("\\begin{tabular}")
    assert "16 & 3 & 0.800" in narrow.stdout
    wrote = command("results", folder, "--output", "new/table.csv")
    assert "wrote new/table.csv" in wrote.stdout
    text = (tmp_path / "new" / "table.csv").read_text()
    assert text.startswith("model.mixer.transition.dim,training.optimizer.learning_rate,metric")
    markdown = command("results", folder, "--output", "t.md")
    assert markdown.exit_code == 0
    assert (tmp_path / "t.md").read_text().startswith("| JT |")


def test_compare_command(command, folder, monkeypatch):
    monkeypatch.setattr(
        "experiments.results.comparing.drawings", lambda *_: iter(list(drawings(*_))[:1])
    )
    drawn = command("compare", folder, "--by", "JT", "--output", "x")
    assert drawn.exit_code == 0, drawn.stderr
    assert "x_accuracy.png" in drawn.stdout
    assert "200 (+100%)" in drawn.stdout
    data = json.loads(command("compare", folder, "--by", "JT", "--output", "x", "--json").stdout)
    assert data["figures"] == ["x_accuracy.png", "x_accuracy.svg"]
    assert [row["parameters"] for row in data["costs"]] == [100, 200, 400]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "none"], "no sweep at 'none'"),
        (["compare", "none"], "no sweep at 'none'"),
        (["report", "none"], "no sweep at 'none'"),
        (["compare"], "Missing argument"),
        (["results", "none", "--length", "x"], "no sweep at 'none'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_2_and_write_nothing(command, tmp_path, arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "dm"], "nearest"),
        (["--length", "9"], "length 9 has not been evaluated"),
        (["--length", "x"], "got 'x', expected numbers such as"),
        (["--metric", "loss"], "one of token, sequence, last"),
        (["--format", "pdf"], "one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_about_a_sweep(command, folder, options, message):
    result = command("results", folder, *options)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
