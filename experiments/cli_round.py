"""The command `round`."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.console import Json, out, print_result, user_errors

# What takes long to import (jax) is imported by the command that needs it.


def round_transitions(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name in runs/.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new run in runs/ (default: that of RUN with -rounded)."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The new run's folder, instead of --name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run exact: its transitions become the nearest representation of a group.

    For models of one block without a convolution that track a group. Which group is read off the
    model's own answers. The new run has one transition a token and no source; evaluate,
    probe, decode and plot it as any run.
    """
    from experiments import load_run
    from experiments.commands import place
    from experiments.rounding import round_run, summary, table

    with user_errors():
        new, rounded = round_run(load_run(run), place(name, folder))
    found = {"folder": str(new.folder), **summary(rounded)}
    print_result(found, table(rounded), as_json)
    if not as_json:
        right = rounded.steps - rounded.wrong_steps
        out.print(
            f"{rounded.group.order} elements; {right:,} of {rounded.steps:,} steps from any "
            f"element by any token are right; all of a sequence is right before {rounded.before:g} "
            f"and after {rounded.after:g}\nwrote {new.folder}",
            soft_wrap=True,
        )


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command("round")(round_transitions)
