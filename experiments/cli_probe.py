"""The command `probe`."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.console import Json, err, plain, print_result, user_errors

# What takes long to import (jax, matplotlib) is imported by the command that needs it.


def probe(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name in runs/.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="gates, contexts, spectrum, group, homomorphism, representations, linear, "
            "separability, sensitivity, drift or exact; repeatable (default: all that suit).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The folder of figures and numbers (default: probes in the run's)."),
    ] = None,
    block: Annotated[int, typer.Option(min=0, help="The block whose gates are drawn, from 0.")] = 0,
    as_json: Json = False,
) -> None:
    """See what a run has learned: its gates, transitions, states, and how far they carry.

    A PNG and an SVG for every probe, and the numbers in probes.json. A model over images or
    grids has one probe, gates: they are drawn over an example.
    """
    from experiments import load_run
    from experiments.probing import probe as probe_run
    from experiments.probing import table

    with user_errors():
        found = probe_run(
            load_run(run),
            only=only,
            output=output,
            block=block,
            announce=lambda text: err.print(plain(text)),
        )
    summaries = {name: outcome.summary for name, outcome in found.items()}
    print_result(summaries, table(found), as_json)


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command()(probe)
