"""What the command line prints: rows for machines, tables for people."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Group
from rich.table import Table
from rich.text import Text

import tasks
from experiments.decoding import Decoded
from experiments.demonstration import Result
from plstm_seq.evaluation import METRICS, SNAPPED, LengthGeneralization
from plstm_seq.evaluation.length import Metric

QUICKSTART_COLUMNS: tuple[tuple[str, Metric, int], ...] = (
    ("token", "token", 256),
    ("seq.", "sequence", 256),
    ("seq.", "sequence", 4096),
)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines; the first column to the left, the others to the right."""
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1),
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def task_row(name: str) -> dict[str, Any]:
    """A task in one row."""
    task = tasks.get(name)
    return {
        "name": name,
        "symbols": len(task.vocabulary),
        "labels": len(task.labels),
        "chance": task.chance,
        "labelled": "every token" if task.per_token else "at the end",
        "rule": (inspect.getdoc(type(task)) or "").partition("\n")[0],
    }


def task_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The tasks as a table."""
    table = plain_table("task", "symbols", "labels", "chance", "labelled", "rule")
    table.columns[-1].justify = "left"
    for row in rows:
        table.add_row(
            row["name"],
            str(row["symbols"]),
            str(row["labels"]),
            f"{row['chance']:.3f}",
            row["labelled"],
            Text(row["rule"]),
        )
    return table


def describe(task: tasks.Task, *, length: int, count: int, seed: int) -> dict[str, Any]:
    """A task's documentation, symbols and examples."""
    batch = task.sample(jax.random.key(seed), count, length)
    texts = task.decode(batch.inputs)
    examples = []
    for text, targets, mask in zip(texts, batch.targets, batch.mask, strict=True):
        labels = [
            task.labels[int(target)] if scored else "."
            for target, scored in zip(targets, mask, strict=True)
        ]
        examples.append({"inputs": text, "labels": " ".join(labels)})
    return {
        "name": task.name,
        "documentation": inspect.getdoc(type(task)) or "",
        "vocabulary": list(task.vocabulary),
        "labels": list(task.labels),
        "chance": task.chance,
        "examples": examples,
    }


def description(data: dict[str, Any]) -> Group:
    """A described task as text."""
    examples = plain_table("inputs", "labels (. is not scored)", title="\nexamples")
    examples.columns[1].justify = "left"
    for example in data["examples"]:
        examples.add_row(Text(example["inputs"]), Text(example["labels"]))
    return Group(
        Text(data["name"], style="bold"),
        Text(data["documentation"]),
        Text(f"\nsymbols: {' '.join(data['vocabulary'])}"),
        Text(f"labels:  {' '.join(data['labels'])}"),
        Text(f"chance:  {data['chance']:.4f}"),
        examples,
    )


def evaluation_table(result: LengthGeneralization) -> Group:
    """Accuracy with intervals at every length, without and with snapping, and the horizons."""
    tables = [_accuracy_table(result, "")]
    if any(row.metric.startswith(SNAPPED) for row in result.rows):
        tables += [Text("\nsnapped to learned prototypes"), _accuracy_table(result, SNAPPED)]
    horizons = plain_table("horizon", *METRICS)
    for threshold in sorted({threshold for _, threshold in result.horizons()}):
        horizons.add_row(
            f"{threshold:g}", *(str(result.horizon(metric, threshold)) for metric in METRICS)
        )
    interval = (
        f"intervals of {result.confidence:.0%}, chance of a token {result.chance:.3f}; "
        "scaled: token accuracy with chance at 0"
    )
    return Group(Text(f"{result}; {interval}"), *tables, Text(""), horizons)


def _accuracy_table(result: LengthGeneralization, prefix: str) -> Table:
    table = plain_table("length", *METRICS, "scaled")
    for column in table.columns:
        column.no_wrap = True
    found = {(row.metric, row.length): row for row in result.rows}
    for length in result.lengths:
        rows = [found[prefix + metric, length] for metric in METRICS]
        cells = (f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})" for row in rows)
        table.add_row(str(length), *(Text(cell) for cell in cells), f"{rows[0].scaled:.3f}")
    return table


def decoded_table(decoded: Sequence[Decoded]) -> Table:
    """Prediction after prediction, beside what the rule says."""
    table = plain_table("symbol", "prediction", "probability", "rule")
    for entry in decoded:
        right = entry.label is None or entry.label == entry.prediction
        table.add_row(
            Text(entry.symbol),
            Text(entry.prediction, style="" if right else "red"),
            f"{entry.probability:.3f}",
            Text(entry.label or ""),
        )
    return table


def quickstart_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What quickstart measured, a row a run."""
    rows = []
    for result in results:
        accuracy = {
            f"{name} {length}": result.evaluation.row(metric, length).value
            for name, metric, length in QUICKSTART_COLUMNS
        }
        rows.append(
            {
                "trained to 40": result.variant.title,
                "seed": result.run.config.seed,
                **accuracy,
                ">256": result.beyond(256),
                "horizon": str(result.evaluation.horizon("sequence", 0.9)),
                "run": str(result.run.folder),
            }
        )
    return rows


def quickstart_table(rows: Sequence[dict[str, Any]]) -> Group:
    """The rows as a table."""
    several = len({row["seed"] for row in rows}) > 1
    names = [name for name in rows[0] if name != "run" and (several or name != "seed")]
    table = plain_table(*names)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        cells = (row[name] for name in names)
        table.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in cells))
    explanation = (
        "Accuracy of the tokens of 256 symbols, of whole sequences of 256 and 4096, and of the "
        "tokens beyond position 256, up to 4096; horizon: the largest length at which 0.9 of the "
        "sequences are right."
    )
    return Group(table, Text(f"\n{explanation}"))
