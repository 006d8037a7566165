"""The parts of a report."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars

from experiments.reporting.html import Content, Markup, join, table, tag
from experiments.reporting.svg import inline
from experiments.results.comparing import TASK, Drawing
from experiments.results.cost_summary import readable_costs, summarize_costs
from experiments.results.export import readable
from experiments.results.rows import DAMAGED, UNFINISHED, measured_with
from experiments.results.settings import SEED, text
from experiments.results.summary import default_length, summarize

_KINDS = {"solved": "good", "diverged": "bad", "failed": "bad", DAMAGED: "bad", UNFINISHED: "quiet"}
_EXPLANATION = (
    "Accuracy of whole sequences, at the longest length in training and at the longest evaluated. "
    "MAD: median absolute deviation from the median. 95% of mean: percentile bootstrap over "
    "members. Success: members with 0.9 of sequences right (one that diverged before it was "
    "evaluated is a failure), with Wilson's 95% interval. Horizon: the largest length such that it "
    "and all shorter ones have 0.9 of sequences right, lower median over members; ≥: the longest "
    "one evaluated."
)
_COSTS = (
    "Medians over members, and how they differ from the first row. State: numbers carried from "
    "token to token for one sequence. FLOPs: of one step of the recurrence, forward. Tokens/s: of "
    "one member in training, in a group its own tokens over the group's time. Memory: of the "
    "compiled training program, all its members together."
)


def results(frame: polars.DataFrame) -> Markup:
    """Settings over their seeds, a table a task and length."""
    parts: list[Content] = []
    several = frame[TASK].n_unique() > 1
    for task in frame[TASK].unique(maintain_order=True):
        own = frame.filter(polars.col(TASK) == task)
        if several:
            parts.append(tag("h3", task.replace("_", " ")))
        parts.append(_results_of_one_task(own))
    parts.append(tag("p", f"Measured with {measured_with(frame)}. {_EXPLANATION}", class_="quiet"))
    return tag("section", tag("h2", "Results"), *parts)


def _results_of_one_task(frame: polars.DataFrame) -> Markup:
    if frame["metric"].is_null().all():
        return tag("p", "Not evaluated yet.")
    lengths = {default_length(frame), *frame["length"].drop_nulls().sort()[-1:]}
    tables = []
    for length in sorted(lengths):
        shown = readable(summarize(frame, length=length))
        tables.append(table(shown.headers, shown.rows, words=shown.words))
    return join(*tables)


def figures(drawings: Iterable[Drawing]) -> Markup:
    """All figures, side by side where there is room."""
    shown = [
        tag(
            "figure",
            inline(drawing.draw(), f"figure{number}", drawing.caption),
            tag("figcaption", drawing.caption),
        )
        for number, drawing in enumerate(drawings, start=1)
    ]
    return tag("section", tag("h2", "Figures"), tag("div", *shown, class_="figures"))


def costs(frame: polars.DataFrame) -> Markup:
    """What each setting costs, and how much more than the first one does."""
    shown = readable_costs(summarize_costs(frame))
    if len(shown.headers) == shown.words:
        return join()
    return tag(
        "section",
        tag("h2", "Costs"),
        table(shown.headers, shown.rows, words=shown.words),
        tag("p", _COSTS, class_="quiet"),
    )


def members(frame: polars.DataFrame) -> Markup:
    """Every member, with its status and what it reached."""
    length = None if frame["metric"].is_null().all() else default_length(frame)
    where = "" if length is None else f" at {length:,}"
    headers = ["member", "status", "step", f"token{where}", f"sequence{where}", "horizon", "error"]
    rows = []
    for (_,), own in frame.group_by("member", maintain_order=True):
        about = own.row(0, named=True)
        cells = [about["member"], _status(about["status"]), str(about["step"])]
        cells += [_accuracy(own, metric, length) for metric in ("token", "sequence")]
        rows.append([*cells, _horizon(own), about["error"] or ""])
    return tag("section", tag("h2", "Members"), table(headers, rows, words=2, prose=True))


def _accuracy(own: polars.DataFrame, metric: str, length: int | None) -> str:
    values = [] if length is None else own.filter(metric=metric, length=length)["value"]
    return f"{values[0]:.3f}" if len(values) else ""


def _horizon(own: polars.DataFrame) -> str:
    reached = own.filter(metric="sequence").select("horizon_90", "horizon_90_open").rows()[:1]
    return "".join(f"{'≥' * is_open}{length:,}" for length, is_open in reached)


def _status(status: str) -> Markup:
    return tag("span", status, class_=_KINDS.get(status, ""))


def repeat(folder: Path, members: polars.DataFrame) -> Markup:
    """The commands that make the sweep again, and the file that they need."""
    name = shlex.quote(folder.resolve().name)
    commands = [
        *_install(members),
        f"plstm-seq sweep --config sweep.yaml --name {name}",
        f"plstm-seq results {name}",
        f"plstm-seq compare {name}",
        f"plstm-seq report {name}",
    ]
    file = (folder / "sweep.yaml").read_text(encoding="utf-8")
    return tag(
        "section",
        tag("h2", "To repeat it"),
        tag("p", "Save the file below as sweep.yaml; then:"),
        tag("pre", "\n".join(commands)),
        tag("details", tag("summary", "sweep.yaml"), tag("pre", file)),
    )


def _install(members: polars.DataFrame) -> Iterator[str]:
    """The versions that were used, if all members used the same."""
    pins = []
    for package in ("plstm-seq", "jax", "jaxlib", "flax", "optax", "numpy"):
        column = f"environment.{package}"
        versions = members[column].drop_nulls().unique() if column in members.columns else ()
        if len(versions) == 1:
            pins.append(f"{package}=={versions[0]}")
    if pins:
        yield f"pip install {' '.join(pins)}"


def environment(members: polars.DataFrame) -> Markup:
    """Devices and versions; where members differ, all of them."""
    prefix = "environment."
    rows = [
        [
            column.removeprefix(prefix),
            ", ".join(map(str, members[column].drop_nulls().unique(maintain_order=True))),
        ]
        for column in members.columns
        if column.startswith(prefix)
    ]
    if not rows:
        return join()
    return tag(
        "section", tag("h2", "Environment"), table(["", "members were trained with"], rows, words=2)
    )


def shared_config(members: polars.DataFrame) -> Markup:
    """The fields that are the same in all members, and those that vary."""
    columns = [
        name
        for name in members.columns
        if name.startswith(("task.", "model.", "training.", "evaluation.")) or name == SEED
    ]
    same = [[name, text(members[name][0])] for name in columns if members[name].n_unique() == 1]
    vary = [
        [name, ", ".join(text(value) for value in members[name].unique(maintain_order=True))]
        for name in columns
        if members[name].n_unique() > 1
    ]
    return tag(
        "section",
        tag("h2", "Config"),
        table(["what varies", "values"], vary, words=2) if vary else "",
        tag(
            "details",
            tag("summary", f"{len(same)} fields that are the same in all members"),
            table(["field", "value"], same, words=2),
        ),
    )
