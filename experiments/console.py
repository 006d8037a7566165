"""What all commands share: their output, their common arguments, and how they report errors."""

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

# Where nobody looks at lines, in a pipe or a file, nothing is cut or wrapped to 80 columns.
_WATCHED = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())
out = Console(highlight=False, width=None if _WATCHED else 300)
err = Console(stderr=True, highlight=False)

# Arguments and options of several commands.
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder of a run, or its name in runs/.")
]
SweepName = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The folder of a sweep, or its name in sweeps/.")
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="table, csv, latex or markdown (default: the one that the ending of --output names, "
        "otherwise table).",
    ),
]
Output = Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON instead of text.")]


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Makes a table without lines; its first column is aligned left, the others right."""
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


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns errors in the block into one line and an exit code.

    The code is 2 for what a user got wrong, and 1 if memory ran out.
    """
    from experiments.config import ConfigError
    from experiments.run import RunError
    from plstm_seq.ops.device import UnsupportedError

    try:
        yield
    except (ConfigError, RunError, ValueError, OSError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    except UnsupportedError as error:
        print_error(f"{error} (without implementation=... one that runs here is taken)")
        raise typer.Exit(2) from None
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        print_error(one_line(error))
        raise typer.Exit(1) from None


def environment_problem() -> str | None:
    """Returns in one line why jax cannot start in this environment, or None if it can."""
    try:
        import jax

        jax.devices()
    except Exception as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        if not platforms:
            return one_line(error)
        return (
            f"JAX_PLATFORMS={platforms}: jax cannot use it here ({one_line(error)[:200]}); unset "
            "it, or set it to cpu"
        )
    return None


def lacks_memory(error: BaseException) -> bool:
    """Returns whether an error says that a device or this machine has no memory left."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def one_line(error: BaseException) -> str:
    """Describes an error in one line."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if lacks_memory(error):
        return (
            f"out of memory ({text[:200]}); a smaller training.batch_size or "
            "evaluation.batch_size needs less"
        )
    return text


def speak_in_lines() -> None:
    """Makes this process print every warning in one line.

    Errors in threads and last callbacks of orbax are not printed, because orbax raises them again
    where it waits for its threads. The interpreter would print them dozens of times for one full
    disk.
    """

    def show(message: object, *_: object) -> None:
        print_warning(" ".join(str(message).split()))

    def print_exception(kind: Any, error: BaseException, traceback: Any) -> None:
        ours = threading.current_thread() is threading.main_thread()
        if ours and str(error) != "Event loop is closed":
            sys.__excepthook__(kind, error, traceback)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that cannot be shown is no error
            stream.reconfigure(errors="replace")
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.showwarning = show  # pyright: ignore[reportAttributeAccessIssue]
    sys.excepthook = print_exception


def announce(text: object) -> None:
    """Prints what a command begins or has done, in one line on standard error."""
    err.print(plain(text), soft_wrap=True)


def print_error(message: object) -> None:
    """Prints an error in one line on standard error."""
    err.print(f"[red]error:[/red] {plain(message)}", soft_wrap=True)


def print_warning(message: object) -> None:
    """Prints a warning in one line on standard error."""
    err.print(f"[yellow]warning:[/yellow] {plain(message)}", soft_wrap=True)


def plain(text: object) -> str:
    """Escapes a text so that rich finds no markup in it."""
    return str(text).replace("[", r"\[")


def print_result(data: Any, text: Any, as_json: bool) -> None:
    """Prints the result of a command on standard output.

    Args:
        data: the result for machines, which is printed as JSON.
        text: the result for people, as text or as something that rich can print.
        as_json: whether `data` is printed instead of `text`.
    """
    if as_json:
        print(json.dumps(data))  # noqa: T201
    else:
        # Text is printed as it is: paths are not folded, and brackets are no markup.
        out.print(plain(text) if isinstance(text, str) else text, soft_wrap=isinstance(text, str))


def form_of(form: str | None, output: Path | None) -> str:
    """Returns the format of a table: the given one, or the one that the file's ending names."""
    endings = {".csv": "csv", ".tex": "latex", ".md": "markdown"}
    return form or endings.get(output.suffix if output else "", "table")


def write_output(output: Path, text: str, as_json: bool) -> None:
    """Writes the text of a command into a file, and prints the name of the file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print_result(str(output), f"wrote {output}", as_json)
