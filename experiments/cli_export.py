"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.console import Json, print_result, user_errors

# What takes long to import (jax) is imported by the command that needs it.


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name in runs/.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="safetensors (the arrays) or stablehlo (a program); default: by OUT's ending.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Length, side of images and grids, or size or depth of graphs that a program "
            "takes (default: any length; the largest in training).",
        ),
    ] = None,
    graphs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Graphs that the program of a graph model takes (default: a batch)."
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option("--platform", help="What a program runs on: cpu, cuda or tpu; repeatable."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="last, or average: those averaged with training.average.")
    ] = "last",
    as_json: Json = False,
) -> None:
    """Write a trained model for use without this library.

    plstm-seq export s3 s3.safetensors, or plstm-seq export s3 s3.stablehlo --platform cuda
    """
    from experiments import load_run
    from experiments.exporting import export_run

    with user_errors():
        try:
            path = export_run(
                load_run(run),
                output,
                form=form,
                size=size,
                graphs=graphs,
                platforms=platforms,
                weights=weights,
            )
        except ImportError as error:
            raise ValueError(str(error)) from None
    print_result(str(path), f"wrote {path}", as_json)


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command()(export)
