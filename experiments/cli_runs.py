"""The commands `decode`, `plot`, `probe`, `export` and `round`, which work on trained runs.

Modules that take long to import (jax, matplotlib) are imported by the commands that need them.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.console import Json, RunName, err, out, plain, print_result, user_errors


def decode(
    run: RunName,
    text: Annotated[
        str | None,
        typer.Argument(help="Symbols (default: each line of standard input is decoded)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Type or pipe symbols and see the predictions token by token."""
    from experiments import decode as decode_text
    from experiments import load_run, show
    from experiments.decoding import check_decodes

    with user_errors():
        loaded = load_run(run)
        check_decodes(loaded)
        if text is None and sys.stdin.isatty():
            err.print(
                f"symbols: {' '.join(loaded.task.vocabulary)}  (one line at a time, Ctrl-D ends)"
            )
        for line in [text] if text is not None else sys.stdin:
            if line.strip():
                decoded = decode_text(loaded, line)
                of = {"passed_over": "; ".join(loaded.checkpoint.passed_over) or None}
                rows = [{**entry._asdict(), **of} for entry in decoded]
                print_result(rows, show.decoded_table(decoded), as_json)


def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Evaluated runs.")],
    output: Annotated[Path, typer.Option(help="The figure's path, without ending.")] = Path(
        "accuracy_against_length"
    ),
    num_sequences: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Draw what was measured with this many sequences per length (default: the number "
            "for which most lengths of the config were measured; of several, the largest).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw accuracy against length of one or more runs, as PNG and SVG."""
    from experiments import load_run
    from experiments import plot as plot_runs

    with user_errors():
        files = plot_runs([load_run(run) for run in runs], output, num_sequences=num_sequences)
    print_result([str(file) for file in files], "\n".join(map(str, files)), as_json)


def export(
    run: RunName,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="safetensors (the arrays) or stablehlo (a program); default: the ending of OUT.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The inputs of a program: their length, the side of images and grids, or the size "
            "or depth of graphs (default: any length, otherwise the largest in training).",
        ),
    ] = None,
    graphs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of graphs that the program of a graph model takes (default: the batch "
            "size of training).",
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            "--platform", help="A platform that the program runs on: cpu, cuda or tpu; repeatable."
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="last, or average: the weights that training.average has averaged."),
    ] = "last",
    as_json: Json = False,
) -> None:
    """Write a trained model for use without this library.

    Examples: plstm-seq export s3 s3.safetensors, plstm-seq export s3 s3.stablehlo --platform cuda
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


def probe(
    run: RunName,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="gates, contexts, spectrum, group, homomorphism, representations, linear, "
            "separability, sensitivity, drift or exact; repeatable (default: all that suit the "
            "run).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the figures and numbers (default: probes in the run's)."),
    ] = None,
    block: Annotated[int, typer.Option(min=0, help="The block whose gates are drawn, from 0.")] = 0,
    as_json: Json = False,
) -> None:
    """See what a run has learned: its gates, transitions and states, and how far they hold.

    Writes a PNG and an SVG for every probe, and the numbers of all probes to probes.json. A model
    of images or grids has only the probe gates, which draws them over an example.
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


def round_transitions(
    run: RunName,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the new run in runs/ (default: RUN-rounded)."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the new run, instead of --name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run exact: replace its transitions by the nearest representation of a group.

    This is for models with one block and no convolution that track a group. Which group it is
    follows from the model's own answers. The new run has one transition per token and no source;
    evaluate, probe, decode and plot it like any other run.
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
