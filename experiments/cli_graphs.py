"""Commands for graphs: cross validation on a data set of files."""

from typing import Annotated

import typer

from experiments.cli_sweep import ExecutorName, Folder, MaxParallel, endings
from experiments.console import Json, print_result, user_errors


def register(app: typer.Typer) -> None:
    """Adds the commands to an app."""
    app.command("cross-validate")(cross_validate)


def cross_validate(
    assignments: Annotated[
        list[str],
        typer.Argument(metavar="data=PATH [KEY=VALUE]...", help="The data set, and fields."),
    ],
    name: Annotated[
        str | None, typer.Option(help="The folds go to sweeps/NAME (default: sweeps/tu-N).")
    ] = None,
    folder: Folder = None,
    executor: ExecutorName = "local",
    max_parallel: MaxParallel = None,
    as_json: Json = False,
) -> None:
    """Train and test on every fold of a TU data set, as published.

    plstm-seq cross-validate data=MUTAG mixer=gin width=48. The same command with --name goes on
    where it was stopped. Steps are 100 epochs in batches of 64; with another training.batch_size
    set training.steps too.
    """
    from experiments import commands
    from experiments.cross_validation import create_folds, folds, folds_table
    from experiments.cross_validation import cross_validate as validate
    from experiments.sweeps.commands import check_members
    from experiments.sweeps.folder import ROOT

    with user_errors():
        where = commands.place(name, folder, root=ROOT)
        config = commands.choose_config("tu", assignments, None, None, resume=False)
        check_members(folds(config), where, executor)
        made = create_folds(config, where).path
        with endings(made):
            result = validate(config, made, executor=executor, max_parallel=max_parallel)
    print_result({"folder": str(made), **result.document()}, folds_table(result), as_json)
