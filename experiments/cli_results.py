"""The commands `results`, `compare` and `report`."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.console import (
    Form,
    Json,
    Output,
    SweepName,
    form_of,
    print_result,
    print_warning,
    user_errors,
    write_output,
)

# Modules that take long to import (jax, polars, matplotlib) are imported by the commands that need
# them.

By = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD,FIELD",
        help="Fields whose values make a setting, e.g. transition.dim (default: all fields that "
        "vary, except the seed).",
    ),
]
NumSequences = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Use what was measured with this many sequences per length (default: the number for "
        "which most members have all their lengths; of several, the largest).",
    ),
]


def results(
    sweep: SweepName,
    by: By = None,
    metric: Annotated[
        str,
        typer.Option(
            help="The accuracy: token, sequence or last, or snapped_sequence, averaged_sequence "
            "and so on."
        ),
    ] = "sequence",
    length: Annotated[
        str | None, typer.Option(help="Lengths, such as 40,256 (default: all evaluated ones).")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Keep only members with this value of a field, or with one of several values "
            "separated by commas; repeatable.",
        ),
    ] = None,
    form: Form = None,
    num_sequences: NumSequences = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Summarize a sweep: each setting's best, median, mean, success rate and horizon over seeds.

    plstm-seq results jt --by transition.dim --length 256 --where learning_rate=0.003
    """
    from experiments import commands
    from experiments.results import export, gather, summarize
    from experiments.results import where as rows_where
    from experiments.sweeps.rows import DAMAGED, measured_with

    with user_errors():
        frame = rows_where(gather(sweep, num_sequences=num_sequences), where or [])
        summary = summarize(frame, _names(by), metric, commands.parse_numbers(length, "--length"))
        chosen = form_of(form, output)
        text = export(summary, chosen)
    if output is not None:
        write_output(output, text, as_json)
    elif as_json:
        measured = {"measured": measured_with(frame)}
        print_result([{**row, **measured} for row in summary.to_dicts()], None, as_json)
    else:
        print(text, end="")  # noqa: T201
        if chosen == "table":
            print(f"\n{measured_with(frame)}")  # noqa: T201
            for problem in frame.filter(status=DAMAGED)["error"].unique(maintain_order=True):
                print_warning(problem)


def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP...", help="Folders of sweeps, or their names in sweeps/."),
    ],
    by: By = None,
    length: Annotated[
        int | None,
        typer.Option(
            help="The length of the figures that show the accuracy at one length (default: the "
            "longest in training)."
        ),
    ] = None,
    num_sequences: NumSequences = None,
    output: Annotated[
        Path, typer.Option(help="PREFIX of the figures' paths, as in PREFIX_accuracy.png.")
    ] = Path("compare"),
    as_json: Json = False,
) -> None:
    """Compare the settings of sweeps in figures (PNG and SVG), and print what they cost.

    The figures show accuracy against length, steps, time and costs, the horizon against JT, and the
    solve rate against the learning rate.
    """
    from experiments.results.comparing import compare as draw
    from experiments.results.export import readable_costs
    from experiments.tables import to_text

    with user_errors():
        figures, costs, measured = draw(
            sweeps, output, by=_names(by), length=length, num_sequences=num_sequences
        )
    files = [str(file) for file in figures]
    data = {"figures": files, "costs": costs.to_dicts(), "measured": measured}
    if as_json:
        print_result(data, None, as_json)
    else:
        print(to_text(readable_costs(costs)), measured, *files, sep="\n")  # noqa: T201


def report(
    sweep: SweepName,
    output: Annotated[
        Path | None, typer.Option(help="The file (default: report.html in the sweep's folder).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an HTML page about a sweep: figures, tables, commands to repeat it, environment."""
    from experiments.reporting import report as write_report

    with user_errors():
        path = write_report(sweep, output)
    print_result(str(path), f"wrote {path}", as_json)


def _names(by: str | None) -> list[str] | None:
    return None if by is None else [name.strip() for name in by.split(",") if name.strip()]
