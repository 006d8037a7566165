"""Makes what the command line prints: rows for machines, and tables for people."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from rich.console import Group
from rich.table import Table
from rich.text import Text

import tasks
from experiments.console import plain_table
from experiments.decoding import Decoded
from experiments.problems import make_task, problem_of
from experiments.problems.demanding import Demands, demands
from plstm_seq.evaluation import AVERAGED, METRICS, SNAPPED, LengthGeneralization

# The length of the sequences that are shown as examples.
_SHOWN_LENGTH = 12


def task_row(name: str) -> dict[str, Any]:
    """Describes a task in one row."""
    task = make_task(name)
    symbols = getattr(task, "vocabulary", None)
    return {
        "name": name,
        "reads": _reads(task),
        "symbols": None if symbols is None else len(symbols),
        "labels": len(task.labels),
        "chance": task.chance,
        "labelled": _labelled(task),
        "rule": _documentation(task).partition("\n")[0],
    }


def _documentation(task: Any) -> str:
    """Returns the part of a task's docstring before its example."""
    return (inspect.getdoc(type(task)) or "").partition("\nExample:\n")[0].rstrip()


def _reads(task: Any) -> str:
    if isinstance(task, tasks.Task):
        return "sequences"
    if isinstance(task, tasks.GraphTask):
        return "graphs"
    return "grids" if hasattr(task, "vocabulary") else "images"


def _labelled(task: Any) -> str:
    if isinstance(task, tasks.Task):
        return "every token" if task.per_token else "at the end"
    if isinstance(task, tasks.GraphTask):
        return "nodes" if task.per_node else "graph"
    if hasattr(task, "vocabulary"):
        return {"every": "every cell", "last": "last cell"}[task.labels_at]
    return "image"


_TITLES = {
    "every token": "with a label for every token",
    "at the end": "answered at the end",
    "every cell": "with a label for every cell",
    "last cell": "with a label for the last cell",
    "image": "with a label for each",
    "nodes": "with a label for every node",
    "graph": "with a label for each",
}


def _in_order(kind: tuple[tuple[str, str], Any]) -> tuple[int, bool, str]:
    """Sorts kinds of tasks: sequences come first, with those first that have a label per token."""
    (reads, labelled), _ = kind
    return (
        ("sequences", "grids", "images", "graphs").index(reads),
        labelled == "at the end",
        labelled,
    )


def task_list(rows: Sequence[dict[str, Any]], width: int) -> str:
    """Lists the tasks, one per line, under headings that say what they read and what is labelled.

    Args:
        rows: one `task_row` for each task.
        width: the largest number of characters in a line; longer lines are shortened.
    """
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["reads"], row["labelled"]), []).append(row)
    longest = max(len(row["name"]) for row in rows)
    lines = []
    for (reads, labelled), members in sorted(kinds.items(), key=_in_order):
        lines += ["", f"{reads}, {_TITLES[labelled]}", f"{'task':{longest}} labels chance  rule"]
        for row in members:
            line = f"{row['name']:{longest}} {row['labels']:6} {row['chance']:6.3f}  {row['rule']}"
            lines.append(line if len(line) <= width else f"{line[: width - 1]}…")
    return "\n".join(lines[1:])


def describe(task: Any, *, length: int | None, count: int, seed: int) -> dict[str, Any]:
    """Describes a task: its documentation, symbols, labels and examples.

    For a sequence task, `asks_for` says what its automaton demands of a model (None if there is no
    automaton), and `in_words` says the same in sentences. Images are not shown, only their labels.
    """
    return {
        "name": task.name,
        "documentation": _documentation(task),
        "vocabulary": list(getattr(task, "vocabulary", ())),
        "labels": list(task.labels),
        "chance": task.chance,
        **(_asks_for(task) if isinstance(task, tasks.Task) else {}),
        "examples": list(_examples(task, length, count, seed)),
    }


def _asks_for(task: Any) -> dict[str, Any]:
    try:
        found = demands(task)
    except ValueError as error:
        return {"asks_for": None, "in_words": [["automaton", f"not analysed: {error}"]]}
    if found is None:
        nothing = (
            "none: what has to be remembered grows with the input (not regular), or no table of it "
            "is given"
        )
        return {"asks_for": None, "in_words": [["automaton", nothing]]}
    return {"asks_for": found.summary(), "in_words": list(map(list, _in_words(found)))}


_KINDS = {
    "aperiodic": "aperiodic: to remember and to forget, never to count in a circle",
    "group": "group: every symbol permutes the states, nothing is forgotten",
    "permutation-reset": "permutation-reset: every symbol permutes the states or resets them",
    "mixed": "mixed: some words permute states, some symbols join them",
}


def _in_words(of: Demands) -> Iterator[tuple[str, str]]:
    """Yields what a task asks for, as pairs of a subject and a sentence."""
    found = of.structure
    yield "automaton", f"{_count(found.states, 'state')}, the fewest that give these labels"
    words = "too many elements to be counted"
    if found.monoid_order is not None:
        words = _count(found.monoid_order, "element")
    yield "monoid", f"{words}: the different things that words do to the states"
    yield "kind", _KINDS[found.kind]
    which = "some symbol leads" if found.has_resets else "no symbol leads"
    if not found.has_resets and found.has_constant:
        which = "no symbol, but some word leads"
    yield "resets", f"{which} to one state wherever it is read"
    yield "group", _group_in_words(of)
    if found.group_order != 1 and of.faithful_dimension is not None:
        yield (
            "dimension",
            f"{of.faithful_dimension}: real matrices of this size can multiply as the group does "
            f"and all differ; {of.rotation_dimension} if all determinants are 1",
        )
        if of.reflection_length is not None:
            yield (
                "reflections",
                f"{of.reflection_length}: at most so many Householder matrices make a symbol's "
                "matrix P of that size, the largest rank(I - P)",
            )
    if of.linear_dimension is not None:
        yield (
            "linear form",
            f"{of.linear_dimension}: with one matrix of this size a symbol every input is labelled "
            "exactly; the smallest that was found",
        )
    for problem in of.not_computed:
        yield "not computed", problem


def _group_in_words(of: Demands) -> str:
    found = of.structure
    if found.group_order == 1:
        return "only the trivial one"
    known = {True: "", False: "not ", None: "perhaps "}
    solvable = {
        True: "solvable (so in TC0)",
        False: "not solvable (so complete for NC1)",
        None: "perhaps solvable",
    }
    traits = f"{known[found.is_abelian]}abelian, {solvable[found.is_solvable]}"
    if found.is_group:
        order = "too many" if found.group_order is None else f"{found.group_order:,}"
        return f"{order} elements, {traits}"
    if found.group_order is None:
        return f"some in the monoid, of unknown order; all together {traits}"
    return f"the largest in the monoid has {found.group_order:,} elements; all are {traits}"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _examples(task: Any, length: int | None, count: int, seed: int) -> Iterator[dict[str, str]]:
    """Yields examples with inputs and labels as text; each row of a grid is one line."""
    key = jax.random.key(seed)
    problem = problem_of(task)
    if problem.examples is not None:  # the task reads files, whose examples are not shown
        return
    if isinstance(task, tasks.GraphTask):
        for number in range(count):
            size = length or problem.recommended_sizes()[0]
            graph = task.draw([seed, number], 1, size)
            (text,) = task.decode(graph.edge_index, graph.nodes, graph.graph)
            yield {"inputs": text, "labels": _labels(task, graph.targets, graph.mask)}
        return
    if not isinstance(task, tasks.Task):
        batch = problem.draw(key, count, length or problem.recommended_sizes()[0])
        examples = zip(batch.inputs, batch.targets, batch.mask, strict=True)
        yield from (_grid_example(task, *example) for example in examples)
        return
    batch = task.sample(key, count, length or _SHOWN_LENGTH)
    texts = task.decode(batch.inputs)
    for text, targets, mask in zip(texts, batch.targets, batch.mask, strict=True):
        yield {"inputs": text, "labels": _labels(task, targets, mask)}


def _grid_example(task: Any, inputs: Any, targets: Any, mask: Any) -> dict[str, str]:
    if inputs.ndim != targets.ndim:
        shown = f"{inputs.shape[0]} x {inputs.shape[1]} pixels"
        return {"inputs": shown, "labels": task.labels[int(targets)]}
    rows = (" ".join(task.vocabulary[int(symbol)] for symbol in row) for row in inputs)
    labels = (_labels(task, *row) for row in zip(targets, mask, strict=True))
    return {"inputs": "\n".join(rows), "labels": "\n".join(labels)}


def _labels(task: Any, targets: Any, mask: Any) -> str:
    pairs = zip(targets, mask, strict=True)
    return " ".join(task.labels[int(target)] if scored else "." for target, scored in pairs)


def description(data: dict[str, Any]) -> Group:
    """Makes the text of a task that `describe` has described."""
    examples = plain_table("inputs", "labels (. is not scored)", title="\nexamples")
    examples.columns[1].justify = "left"
    for example in data["examples"]:
        examples.add_row(Text(example["inputs"]), Text(example["labels"]))
    symbols = data["vocabulary"]
    asks = Table.grid(padding=(0, 2, 0, 0))
    for subject, sentence in data.get("in_words", ()):
        asks.add_row(subject, Text(sentence))
    return Group(
        Text(data["name"], style="bold"),
        Text(data["documentation"]),
        Text(f"\nsymbols: {' '.join(symbols) or 'none'}"),
        Text(f"labels:  {' '.join(data['labels']) or 'none: numbers are predicted'}"),
        Text(f"chance:  {data['chance']:.4f}"),
        *([Text("\nwhat it asks for", style="bold"), asks] if "in_words" in data else []),
        *([examples] if data["examples"] else []),
    )


def evaluation_rows(result: LengthGeneralization) -> list[dict[str, Any]]:
    """Returns every row that was measured, with its checkpoint, as JSON can hold it."""
    of = {
        "step": result.step,
        "checkpoint": result.checkpoint,
        "passed_over": "; ".join(result.notes) or None,
    }
    return [{**row._asdict(), **of} for row in result.rows]


def evaluation_table(result: LengthGeneralization) -> Group:
    """Makes tables of accuracies with intervals at every length, and of horizons.

    Averaged parameters and snapped states have their own tables if they were measured.
    """
    tables = [_accuracy_table(result, "")]
    for prefix, title in (
        (AVERAGED, "averaged parameters"),
        (SNAPPED, "snapped to learned prototypes"),
    ):
        if any(row.metric.startswith(prefix) for row in result.rows):
            tables += [Text(f"\n{title}"), _accuracy_table(result, prefix)]
    horizons = plain_table("horizon", *METRICS)
    for threshold in sorted({threshold for _, threshold in result.horizons()}):
        reached = (result.horizon(metric, threshold) for metric in METRICS)
        cells = (f"{'>=' if found.open_ended else ''}{found.length:,}" for found in reached)
        horizons.add_row(f"{threshold:g}", *cells)
    interval = (
        f"intervals of {result.confidence:.0%}, chance of a token {result.chance:.3f}; "
        "scaled: token accuracy with chance at 0"
    )
    return Group(Text(f"{result.describe()}; {interval}"), *tables, Text(""), horizons)


def _accuracy_table(result: LengthGeneralization, prefix: str) -> Table:
    table = plain_table(result.axis, *METRICS, "scaled")
    for column in table.columns:
        column.no_wrap = True
    found = {(row.metric, row.length): row for row in result.rows}
    for length in result.lengths:
        rows = [found[prefix + metric, length] for metric in METRICS]
        cells = (f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})" for row in rows)
        table.add_row(f"{length:,}", *(Text(cell) for cell in cells), f"{rows[0].scaled:.3f}")
    return table


def decoded_table(decoded: Sequence[Decoded]) -> Table:
    """Makes a table with a row per symbol: the prediction next to the label by the rule."""
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
