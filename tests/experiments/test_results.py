"""Rows and summaries of a sweep whose numbers are known."""

import json
import math
import re
import statistics
import warnings
from itertools import pairwise

import polars
import pytest
from fake_sweep import Fake, cost, make_sweep, write_evaluation
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from experiments import ConfigError, RunError
from experiments.overrides import resolve_column, short_names
from experiments.plotting import scale_lengths, styled
from experiments.results import export, gather, readable, summarize, where
from experiments.results.summary import default_length, mean_interval, varied
from experiments.sweeps.folder import ROOT, find_sweep

# By JT and seed: how many of 100 sequences are right at lengths 4 and 8, and tokens at 8.
RIGHT = {
    (1, 0): (90, 10, 60),
    (1, 1): (95, 20, 70),
    (1, 2): (50, 0, 50),
    (2, 0): (100, 100, 100),
    (2, 1): (100, 90, 99),
    (2, 2): (99, 85, 98),
}


def result(config):
    dim, seed = config.model.mixer.transition.dim, config.seed
    if seed == 3:
        return Fake(status="diverged", error="step 3: loss nan") if dim == 1 else Fake(begun=False)
    short, long, token = RIGHT[dim, seed]
    return Fake({4: (short, 100), 8: (long, token)}, "finished", cost=cost(1000 * dim, 64 * dim))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "jt"
    return make_sweep(folder, "transition.dim=1,2 seed=0..3", result)


@pytest.fixture(scope="module")
def frame(folder):
    return gather(folder)


def test_one_row_per_member_length_and_metric(frame):
    measured = frame.filter(polars.col("metric").is_not_null())
    assert len(measured) == 6 * 2 * 3
    assert measured.select("member", "metric", "length").is_unique().all()
    row = measured.filter(member="JT=2,seed=1", metric="sequence", length=8).row(0, named=True)
    assert (row["value"], row["num_sequences"], row["status"]) == (0.9, 100, "finished")
    assert row["model.mixer.transition.dim"] == 2
    assert row["training.optimizer.learning_rate"] == pytest.approx(0.003)
    assert row["evaluation.lengths"] == "[4, 9]"
    assert (row["environment.jax"], row["cost.parameters"]) == ("0.10.2", 2000)
    assert (row["seconds"], row["step"], row["trained_length"]) == (4.0, 6, 5)
    assert row["group"] == "g01"


def test_members_without_results_have_a_row_of_their_own(frame):
    rows = frame.filter(polars.col("metric").is_null())
    assert rows["member"].to_list() == ["JT=1,seed=3", "JT=2,seed=3"]
    assert rows["status"].to_list() == ["diverged", "unfinished"]
    assert rows["error"].to_list() == ["step 3: loss nan", None]
    assert rows["step"].to_list() == [6, 0]
    assert rows["cost.parameters"].to_list() == [None, None]


def test_horizons_by_hand(frame):
    found = frame.filter(metric="sequence", length=8).select("horizon_90", "horizon_90_open")
    # 0.90 and 0.95 pass at 4 alone; JT = 2 passes at 8 with 1.00 and 0.90, not with 0.85.
    expected = [(4, False), (4, False), (0, False), (8, True), (8, True), (4, False)]
    assert found.rows() == expected
    strict = frame.filter(metric="sequence", length=8)["horizon_99"].to_list()
    assert strict == [0, 0, 0, 8, 4, 4]


def test_the_table_is_kept(folder, frame):
    path = folder / "results.parquet"
    assert polars.read_parquet(path).equals(frame)
    assert not list(folder.glob(".*.tmp"))


def test_results_without_their_members_are_read_and_stay(folder, frame, tmp_path):
    for name in ("sweep.yaml", "results.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert gather(tmp_path).equals(frame)
    assert polars.read_parquet(tmp_path / "results.parquet").equals(frame)


def test_summary_by_hand(frame):
    summary = summarize(frame, ["transition.dim"], "sequence", 8)
    first, second = summary.rows(named=True)
    assert first["model.mixer.transition.dim"] == 1
    assert (first["members"], first["n"], first["trials"], first["successes"]) == (4, 3, 4, 0)
    assert (first["best"], first["median"], first["mad"]) == (0.2, 0.1, 0.1)
    assert first["mean"] == pytest.approx(0.1)
    assert first["std"] == pytest.approx(0.1)
    # The member that has not begun is no trial.
    assert (second["members"], second["n"], second["trials"], second["successes"]) == (4, 3, 3, 2)
    assert (second["best"], second["median"]) == (1.0, 0.9)
    assert second["mad"] == pytest.approx(0.05)
    assert second["success_rate"] == pytest.approx(2 / 3)
    # Wilson by hand, z = 1.96: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    z, n, p = statistics.NormalDist().inv_cdf(0.975), 3, 2 / 3
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = (p + z * z / (2 * n) - spread) / (1 + z * z / n)
    assert second["success_low"] == pytest.approx(low)
    assert second["horizon"] == 8
    assert second["horizon_open"]
    assert (first["horizon"], first["horizon_open"], first["horizon_best"]) == (4, False, 4)
    assert second["mean_low"] <= second["mean"] <= second["mean_high"]


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    assert mean_interval([0.2, 0.2, 0.2]) == pytest.approx((0.2, 0.2))
    low, high = mean_interval([0.0] * 50 + [1.0] * 50)
    # The normal approximation: 0.5 ± 1.96 * 0.5 / 10.
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.011)


def test_one_member_has_no_spread(frame):
    summary = summarize(frame, ["transition.dim", "seed"], "token", 8)
    row = summary.row(0, named=True)
    assert (row["best"], row["median"], row["mad"], row["mean"]) == (0.6, 0.6, 0.0, 0.6)
    assert row["std"] is row["mean_low"] is row["mean_high"] is None


def test_a_setting_without_results_is_shown_without_numbers(frame):
    summary = summarize(frame, ["seed"], "sequence")
    last = summary.filter(seed=3).rows(named=True)
    assert [(row["length"], row["n"], row["members"]) for row in last] == [(4, 0, 2)]
    assert last[0]["mean"] is None
    assert (last[0]["successes"], last[0]["trials"]) == (0, 1)
    assert readable(summary).rows[-1][2:4] == ("0/2", "")


def test_what_varies_makes_the_settings(frame, tmp_path):
    assert varied(frame) == ["model.mixer.transition.dim"]
    assert summarize(frame).columns[0] == "model.mixer.transition.dim"
    assert default_length(frame) == 8  # the first from the longest in training, 5, on
    kinds = make_sweep(
        tmp_path / "kinds",
        "transition=diagonal,orthogonal transition.dim=1,2 width=8,16 seed=0..1",
        lambda _: Fake({4: (9, 9)}),
    )
    # Fields that only one kind has follow from the kind.
    assert varied(gather(kinds)) == [
        "model.mixer.transition.kind",
        "model.mixer.transition.dim",
        "model.width",
    ]


def test_sizes_that_follow_from_jt_do_not_name_a_setting(frame):
    width = polars.col("model.mixer.transition.dim").replace_strict({1: 64, 2: 48})
    assert varied(frame.with_columns(width.alias("model.width"))) == ["model.mixer.transition.dim"]


def test_where(frame):
    assert set(where(frame, ["transition.dim=2"])["cost.parameters"]) == {2000, None}
    some = where(frame, ["JT=1,2", "seed=0,2", "metric=token"])
    assert set(some["member"]) == {f"JT={dim},seed={seed}" for dim in (1, 2) for seed in (0, 2)}
    assert set(where(frame, ["evaluation.lengths=[4, 9]"])["member"]) == set(frame["member"])
    assert set(where(frame, ["learning_rate=3e-3"])["member"]) == set(frame["member"])
    assert set(where(frame, ["status=diverged"])["member"]) == {"JT=1,seed=3"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda frame: where(frame, ["seed"]), r"expected column=value"),
        (lambda frame: where(frame, ["seed=9"]), r"leaves nothing: seed is 0, 1, 2, 3"),
        (lambda frame: where(frame, ["sed=1"]), r"no column 'sed'; nearest: seed"),
        (lambda frame: summarize(frame, ["transition.dm"]), r"nearest: transition\.dim"),
        (lambda frame: summarize(frame, metric="loss"), r"one of token, sequence, last"),
        (lambda frame: summarize(frame, length=7), r"length 7 has not been evaluated.*4, 8"),
        (lambda frame: export(summarize(frame), "pdf"), r"one of table, csv, latex, markdown"),
        (
            lambda _: resolve_column("name", ["task.name", "run.name"]),
            r"ambiguous.*task\.name, run",
        ),
    ],
    ids=["form", "value", "column", "by", "metric", "length", "format", "ambiguous"],
)
def test_mistakes_say_what_is_there(frame, call, message):
    with pytest.raises(ConfigError, match=message):
        call(frame)


def test_short_names():
    fields = ["model.mixer.transition.dim", "training.steps", "model.a.scale", "model.b.scale"]
    assert list(short_names(fields).values()) == ["JT", "steps", "a.scale", "b.scale"]


def test_exports(frame):
    summary = summarize(frame, ["transition.dim"], "sequence", 8)
    rows = export(summary, "csv").splitlines()
    assert rows[0].startswith("model.mixer.transition.dim,metric,length,members,n,best,median,mad")
    assert rows[2].startswith("2,sequence,8,4,3,1.0,0.9,")
    markdown = export(summary, "markdown").splitlines()
    assert markdown[:2] == [
        "| JT | length | n | best | median ± MAD | mean ± std | 95% of mean | success (95%) | "
        "horizon |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    assert "| 2 | 8 | 3/4 | 1.000 | 0.900 ± 0.050 | 0.917 ± 0.076 |" in markdown[3]
    assert markdown[3].endswith("| 2/3 (0.21-0.94) | ≥8 |")
    latex = export(summary, "latex")
    assert latex.startswith("\\begin{tabular}{lrrrrrrrr}\n\\toprule\nJT & length & n & best")
    assert r"95\% of mean" in latex
    assert r"2 & 8 & 3/4 & 1.000 & 0.900 $\pm$ 0.050" in latex
    assert r"$\geq$8 \\" in latex
    assert latex.endswith("\\bottomrule\n\\end{tabular}\n")


def test_exports_escape_what_they_must():
    frame = polars.DataFrame({"task.name": ["a_b|c%\\&"], "metric": ["token"]})
    empty = {
        name: [None] for name in ("best", "median", "mad", "mean", "std", "mean_low", "mean_high")
    }
    counts = {"length": [1], "n": [0], "members": [1], "trials": [0], "horizon": [None]}
    summary = frame.with_columns(**{k: polars.Series(v) for k, v in {**empty, **counts}.items()})
    assert r"a\_b|c\%\textbackslash{}\& & 1 & 0/1" in export(summary, "latex")
    assert r"| a_b\|c%\\& | 1 |" in export(summary, "markdown")


def test_finding_a_sweep(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ROOT.mkdir()
    (ROOT / "jt").symlink_to(folder)
    assert find_sweep("jt") == ROOT / "jt"
    assert find_sweep(folder) == folder
    with pytest.raises(RunError, match=r"no sweep at 'jtt', nor in sweeps/; nearest: jt"):
        gather("jtt")


def test_a_sweep_that_has_measured_nothing(tmp_path):
    folder = make_sweep(tmp_path / "new", "seed=0..1", lambda _: Fake(begun=False))
    frame = gather(folder)
    assert frame["status"].to_list() == ["unfinished"] * 2
    assert frame["value"].dtype == polars.Float64
    with pytest.raises(RunError, match=r"has been evaluated yet \(.*\): plstm-seq resume"):
        summarize(frame)
    with pytest.raises(RunError, match="no member has been evaluated yet"):
        default_length(frame)


def test_evaluations_at_other_lengths_and_tasks_go_together(tmp_path):
    def lengths(config):
        return Fake({4: (50, 60)} if config.seed else {4: (10, 20), 8: (5, 15)})

    frame = gather(make_sweep(tmp_path / "two", "seed=0..1", lengths))
    summary = summarize(frame)
    assert summary.select("length", "n").rows() == [(4, 2), (8, 1)]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("evaluation.parquet", "PAR1", "plstm-seq evaluate"),
        ("environment.json", "{", "delete it, and resume"),
        ("status.json", '{"status": 3}', "delete it, and resume"),
        ("cost.json", "[]", "delete it, and resume"),
        ("metrics.jsonl", "{}\n{}\n", "correct or delete that line"),
    ],
)
def test_damaged_files_are_named_and_the_rest_is_read(tmp_path, file, content, message):
    folder = make_sweep(tmp_path / "damaged", "seed=0..2", lambda _: Fake({4: (9, 9)}))
    before = gather(folder)
    (folder / "members" / "seed=1" / file).write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that results.parquet stays as it is
        frame = gather(folder)
    own = frame.filter(member="seed=1")
    assert own["status"].unique().to_list() == ["damaged"]
    assert re.search(rf"seed=1/{file} is damaged.*{message}", own["error"][0])
    measured = 0 if file == "evaluation.parquet" else 3
    assert own["metric"].drop_nulls().len() == measured
    others = polars.col("member") != "seed=1"
    columns = ["member", "status", "metric", "length", "value", "seconds"]
    assert_frame_equal(frame.filter(others)[columns], before.filter(others)[columns])


def test_a_new_evaluation_replaces_the_old_rows(tmp_path):
    folder = make_sweep(tmp_path / "again", "seed=0..1", lambda _: Fake({4: (9, 9)}))
    gather(folder)
    write_evaluation(folder / "members" / "seed=0" / "evaluation.parquet", {16: (1, 2)})
    assert gather(folder).filter(member="seed=0")["length"].unique().to_list() == [16]
    status = folder / "members" / "seed=0" / "status.json"
    status.write_text(json.dumps({"status": "solved", "step": 4, "error": None}))
    assert gather(folder).filter(member="seed=0")["status"].unique().to_list() == ["solved"]


@pytest.mark.parametrize("longest", [4096, 65_536, 2**18, 2**20, 2**30])
def test_lengths_below_a_figure_do_not_overlap(longest):
    with styled():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True)
        for axis in axes:
            axis.plot([4, longest], [0, 1])
            scale_lengths(axis)
        figure.canvas.draw()
    boxes = []
    for axis in axes:
        low, high = axis.get_xlim()
        labels = [
            label
            for label, place in zip(axis.get_xticklabels(), axis.get_xticks(), strict=True)
            if low <= place <= high
        ]
        assert len(labels) >= 3
        assert all(re.fullmatch(r"[\d,]+", label.get_text()) for label in labels)
        boxes += [label.get_window_extent() for label in labels]
    assert all(one.x1 < two.x0 for one, two in pairwise(boxes))
