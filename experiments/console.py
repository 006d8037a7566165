"""What the commands share: where they print, and how they end when a user got something wrong."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def user_errors() -> Iterator[None]:
    """What a user got wrong ends with one line and exit code 2."""
    from experiments.config import ConfigError
    from experiments.run import RunError
    from plstm_seq.ops.choice import UnsupportedError

    try:
        yield
    except (ConfigError, RunError, ValueError, OSError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    except UnsupportedError as error:
        print_error(f"{error} (without implementation=... one that runs here is taken)")
        raise typer.Exit(2) from None


def print_error(message: object) -> None:
    """An error in one line on standard error."""
    err.print(f"[red]error:[/red] {plain(message)}", soft_wrap=True)


def plain(text: object) -> str:
    """Text in which rich sees no markup."""
    return str(text).replace("[", r"\[")


def print_result(data: Any, text: Any, as_json: bool) -> None:
    """The result of a command on standard output, for machines or for people."""
    if as_json:
        print(json.dumps(data))  # noqa: T201
    else:
        out.print(text)
