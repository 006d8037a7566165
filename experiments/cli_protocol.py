"""The commands `protocol list`, `protocol run` and `protocol table`."""

from typing import Annotated

import typer

from experiments.cli_sweep import (
    Detach,
    ExecutorName,
    MaxParallel,
    SlurmOption,
    Trackers,
    endings,
)
from experiments.console import (
    Form,
    Json,
    Output,
    err,
    form_of,
    plain,
    print_result,
    user_errors,
    write_output,
)

# Modules that take long to import (jax, flax, polars) are imported by the commands that need them.

app = typer.Typer(
    help="Repeat what papers trained and measured, and show our numbers next to theirs.",
    no_args_is_help=True,
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A protocol; plstm-seq protocol list shows them.")
]


@app.command("list")
def list_protocols(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Describe this protocol in full.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the protocols, or show one: its source, tasks, budget and departures from the paper."""
    from experiments.protocols import load, names, protocol

    with user_errors():
        if name is None:
            rows = [protocol.row(load(known)) for known in names()]
            print_result(rows, protocol.list_table(rows), as_json)
            return
        description = protocol.describe(load(name))
        print_result(description, protocol.description(description), as_json)


@app.command()
def run(
    name: Name,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Fields to set in every model's config."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME[,KEY=VALUE]...",
            help="plstm or another mixer, and fields to set in it; repeatable (default: plstm).",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task of the protocol; repeatable (default: all)."),
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            help="Multiply training and warm-up steps by this; test lengths and samples stay."
        ),
    ] = 1.0,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, such as 0..2 (default: as many as published).")
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(help="Learning rates, such as 1e-3,3e-3 (default: the published ones)."),
    ] = None,
    executor: ExecutorName = "local",
    max_parallel: MaxParallel = None,
    slurm: SlurmOption = None,
    detach: Detach = False,
    trackers: Trackers = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="Print what would be trained; train nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train and measure models as a paper did, with one sweep for each model and task.

    plstm-seq protocol run chomsky_regular --model plstm,transition.dim=4 --model lstm --scale 0.01

    Give the same command again to go on where it was stopped. To see the results:
    plstm-seq protocol table NAME.
    """
    from experiments.protocols import cells, load, protocol, run_cell
    from experiments.protocols.cells import planned
    from experiments.sweep_commands import check_members
    from experiments.sweeps.launch import make_executor
    from experiments.sweeps.values import whole_numbers

    with user_errors():
        chosen = cells(
            load(name),
            models=models or ("plstm",),
            words=words or (),
            tasks=tasks or None,
            scale=scale,
            seeds=None if seeds is None else whole_numbers("--seeds", seeds),
            rates=protocol.rates("--rates", rates),
        )
        if dry_run:
            rows = [planned(cell) for cell in chosen]
            print_result(rows, protocol.plan_table(rows), as_json)
            return
        worker = make_executor(executor, max_parallel, slurm, detach, trackers)
        for cell in chosen:
            check_members(cell.sweep, cell.folder, executor)
        for cell in chosen:
            folder = cell.create().path
            err.print(f"[bold]{plain(folder)}[/bold]", soft_wrap=True)
            with endings(folder):
                run_cell(cell, executor=worker)
    data = {"sweeps": [str(cell.folder) for cell in chosen]}
    count = "1 sweep" if len(chosen) == 1 else f"{len(chosen)} sweeps"
    print_result(data, f"{name}: {count}\nnext: plstm-seq protocol table {name}", as_json)


@app.command()
def table(
    name: Name,
    scale: Annotated[
        float | None, typer.Option(help="Show only runs of this scale (default: all scales).")
    ] = None,
    form: Form = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Show what was measured here next to what was published, and what was not run.

    Each of our statistics is taken over the seeds, at the learning rate where it is highest.
    """
    from experiments.protocols import compare, export, load
    from experiments.protocols.table import not_run

    with user_errors():
        compared = compare(load(name), scale=scale)
        text = export(compared, form_of(form, output))
    if output is not None:
        write_output(output, text, as_json)
    elif as_json:
        data = {"rows": compared.frame.to_dicts(), "not_run": not_run(compared)}
        print_result(data, None, as_json)
    else:
        print(text, end="")  # noqa: T201
