"""The report of a sweep."""

import os
from collections import Counter
from pathlib import Path

import polars

from experiments.files import write_whole
from experiments.reporting import sections
from experiments.reporting.html import Markup, tag
from experiments.results.comparing import drawings
from experiments.results.curves import training_records
from experiments.results.rows import find_sweep, gather
from experiments.results.summary import NOT_EVALUATED

_STYLE = Path(__file__).with_name("style.css")


def report(sweep_folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes one HTML page about a sweep: figures, tables, how to repeat it, environment, members.

    The page is a single file that asks for nothing else, on a phone as on a desk. It can be made
    at any time; members that are not done are listed as such.

    Args:
        sweep_folder: the folder of a sweep, or its name in `sweeps/`.
        output: the file; None: `report.html` in the folder, or, where nothing may be written into
            it, `NAME_report.html` here.

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
    """The page as text."""
    frame, name = gather(folder), folder.resolve().name
    members = frame.unique(subset=["member"], maintain_order=True)
    parts = [_head(name, members)]
    if frame["metric"].drop_nulls().is_empty():
        parts.append(tag("p", f"{NOT_EVALUATED.capitalize()}: plstm-seq resume ", name))
    else:
        figures = drawings(frame, training_records(folder))
        parts += [sections.results(frame), sections.figures(figures), sections.costs(frame)]
    parts += [
        sections.members(frame),
        sections.repeat(folder, members),
        sections.environment(members),
        sections.shared_config(members),
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
