"""Writes a report of a sweep as one HTML page, which needs nothing but a browser.

path = report("sweeps/jt")

Functions make the elements of the page. All text that does not come from them is escaped.
"""

import html
import io
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars
from matplotlib.figure import Figure

from experiments.plotting import styled
from experiments.results.comparing import TASK, Drawing, drawings
from experiments.results.export import readable, readable_costs, summarize_costs
from experiments.results.summary import NOT_EVALUATED, SEED, default_length, summarize, text
from experiments.sweeps.folder import find_sweep
from experiments.sweeps.rows import DAMAGED, UNFINISHED, gather, measured_with, training_records
from plstm_seq.files import write_whole


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable["Content"]


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """Makes an HTML element.

    Args:
        name: the name of the element.
        *content: text, which is escaped, elements, or lists of these.
        **attributes: the attributes; `class_` stands for class, and `aria_label` for aria-label.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: Content) -> Markup:
    """Joins contents in order, and escapes text among them."""
    return Markup("".join(map(_markup, content)))


def _markup(content: Content) -> str:
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return html.escape(content)
    return "".join(map(_markup, content))


def table(
    headers: Sequence[str],
    rows: Iterable[Iterable[Content]],
    *,
    words: int = 1,
    prose: bool = False,
) -> Markup:
    """Makes a table in a box, which scrolls by itself if the table is too wide for the page.

    Args:
        headers: the headers of the columns.
        rows: the rows, each with a cell per column.
        words: number of the first columns that hold words; the others hold numbers.
        prose: whether the last column holds sentences, whose lines may be broken.
    """
    kinds = ["words" if index < words else "number" for index in range(len(headers))]
    if prose:
        kinds[-1] = "words prose"
    head = [
        tag("th", text, scope="col", class_=kind) for text, kind in zip(headers, kinds, strict=True)
    ]
    body = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    inner = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0")


_SIZE = re.compile(r'\s(?:width|height)="[\d.]+pt"')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
# Matplotlib's style for `*` would apply to the whole page; report.css has it for figures alone.
_STYLE_TAG = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)
_NAME = re.compile(r'(\bid="|url\(#|href="#)')


def inline(figure: Figure, name: str, description: str) -> Markup:
    """Turns a figure into an `<svg>` element.

    Args:
        figure: the figure.
        name: a prefix for the names of the figure's parts, which have to be unique in a page.
        description: a description for readers who cannot see the figure.
    """
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = _STYLE_TAG.sub("", _METADATA.sub("", file.getvalue()))
    opening, rest = text[text.index("<svg") :].split(">", 1)
    rest = _NAME.sub(rf"\g<1>{name}-", rest)
    label = html.escape(description)
    return Markup(f'{_SIZE.sub("", opening)} role="img" aria-label="{label}">{rest.strip()}')


_STYLE = Path(__file__).with_name("report.css")


def report(sweep_folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes one HTML page about a sweep: figures, tables, how to repeat it, environment, members.

    The page is a single file that needs no other file, and suits phones and large screens. It can
    be made at any time; members that are not done are listed as such.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.
        output: the file; None: `report.html` in the sweep's folder, or `NAME_report.html` in the
            current folder if the sweep's folder is read-only.

    Returns:
        The file.

    Raises:
        RunError: there is no such sweep, or a file of a member is damaged.
        ConfigError: its sweep.yaml is not valid.
    """
    folder = find_sweep(sweep_folder)
    path = folder / "report.html" if output is None else Path(output)
    if output is None and not os.access(folder, os.W_OK):
        path = Path(f"{folder.resolve().name}_report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(folder))
    return path


def page(folder: Path) -> str:
    """Returns the HTML of the page."""
    frame, name = gather(folder), folder.resolve().name
    members = frame.unique(subset=["member"], maintain_order=True)
    parts = [_head(name, members)]
    if frame["metric"].drop_nulls().is_empty():
        parts.append(tag("p", f"{NOT_EVALUATED.capitalize()}: plstm-seq resume ", name))
    else:
        figures = drawings(frame, training_records(folder))
        parts += [_results(frame), _figures(figures), _costs(frame)]
    parts += [
        _members(frame),
        _repeat(folder, members),
        _environment(members),
        _shared_config(members),
    ]
    return _document(f"{name}: sweep report", parts)


def _head(name: str, members: polars.DataFrame) -> Markup:
    tasks = ", ".join(members["task.name"].unique(maintain_order=True))
    counts = Counter(members["status"])
    status = ", ".join(f"{count} {status}" for status, count in counts.items())
    return tag(
        "header",
        tag("h1", name),
        tag("p", f"A sweep on {tasks}: {len(members)} members ({status})."),
    )


def _document(title: str, parts: list[Markup]) -> str:
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    body = tag("body", tag("main", *(Markup(f"{part}\n") for part in parts)))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


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
    "the training program, whose members share its time. Memory: of the compiled training "
    "program, all its members together."
)


def _results(frame: polars.DataFrame) -> Markup:
    """Makes the tables of settings over their seeds, one for each task and length."""
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


def _figures(drawings: Iterable[Drawing]) -> Markup:
    """Shows all figures, side by side where there is room."""
    shown = [
        tag(
            "figure",
            inline(drawing.draw(), f"figure{number}", drawing.caption),
            tag("figcaption", drawing.caption),
        )
        for number, drawing in enumerate(drawings, start=1)
    ]
    return tag("section", tag("h2", "Figures"), tag("div", *shown, class_="figures"))


def _costs(frame: polars.DataFrame) -> Markup:
    """Makes the table of what each setting costs, and how much more than the first setting."""
    shown = readable_costs(summarize_costs(frame))
    if len(shown.headers) == shown.words:
        return join()
    return tag(
        "section",
        tag("h2", "Costs"),
        table(shown.headers, shown.rows, words=shown.words),
        tag("p", _COSTS, class_="quiet"),
    )


def _members(frame: polars.DataFrame) -> Markup:
    """Makes the table of all members, with their status and accuracy."""
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


def _repeat(folder: Path, members: polars.DataFrame) -> Markup:
    """Shows the commands that repeat the sweep, and the file that they need."""
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
    """Yields a command that installs the packages for which all members used one version."""
    pins = []
    for package in ("plstm-seq", "jax", "jaxlib", "flax", "optax", "numpy"):
        column = f"environment.{package}"
        versions = members[column].drop_nulls().unique() if column in members.columns else ()
        if len(versions) == 1:
            pins.append(f"{package}=={versions[0]}")
    if pins:
        yield f"pip install {' '.join(pins)}"


def _environment(members: polars.DataFrame) -> Markup:
    """Makes the table of devices and versions; where members differ, it shows all values."""
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


def _shared_config(members: polars.DataFrame) -> Markup:
    """Makes a table of the fields that vary, and one of those that are the same in all members."""
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
