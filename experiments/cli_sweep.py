"""The commands `sweep`, `status`, `resume` and `cross-validate`."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.console import (
    Json,
    SweepName,
    announce,
    err,
    plain,
    print_error,
    print_result,
    user_errors,
)

if TYPE_CHECKING:
    from experiments.sweeps.executors import Executor

# Modules that take long to import (jax, flax, polars) are imported by the commands that need them.

Folder = Annotated[
    Path | None, typer.Option(help="The sweep goes to this folder, which may be anywhere.")
]
Generators = Annotated[
    str | None,
    typer.Option(
        metavar="'(0 1)(2 3),(0 1 2 3 4)'",
        help="For word_problem: permutations of 0, 1, ... that generate the group. They are also "
        "its symbols; with task.generators=all every element of the group is one.",
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor", help="Where groups are trained: local (this process), processes, or slurm."
    ),
]
MaxParallel = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of groups trained at once, with --executor processes or slurm."
    ),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="An option of every Slurm job, e.g. partition=gpu or time=240; repeatable.",
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", metavar="", help="Return as soon as the jobs are in Slurm's queue."),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option("--tracker", help="Log to this tracker, too: wandb (needs the extra 'wandb')."),
]


def sweep(
    task: Annotated[
        str | None,
        typer.Argument(help="A task; plstm-seq tasks lists them. Leave it out with --config."),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUES]...", help="Fields and their values, e.g. seed=0..7 width=32,64."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Start from this YAML file, which holds a sweep or a run's config."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The sweep goes to sweeps/NAME (default: sweeps/TASK-N).")
    ] = None,
    folder: Folder = None,
    zipped: Annotated[
        list[str] | None,
        typer.Option(
            "--zip",
            metavar="FIELD,FIELD",
            help="Fields whose values change together instead of in all combinations; repeatable.",
        ),
    ] = None,
    generators: Generators = None,
    match: Annotated[
        str | None,
        typer.Option(
            help="Choose a size of each model so that all cost the same: state, parameters or "
            "flops."
        ),
    ] = None,
    executor: ExecutorName = "local",
    max_parallel: MaxParallel = None,
    slurm: SlurmOption = None,
    detach: Detach = False,
    trackers: Trackers = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", metavar="", help="Print groups, members and memory; train nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train and evaluate a model for every combination of the values of some fields.

    plstm-seq sweep s3_word_problem transition.dim=1,2,4 seed=0..7 learning_rate=1e-3,3e-3

    Members whose arrays have the same shapes are trained together, as one program. Give the same
    command with the same --name again to go on where it was stopped.
    """
    from experiments.commands import place, warn_of, with_generators
    from experiments.sweep_commands import check_members, choose_sweep, plan_rows, plan_tables
    from experiments.sweeps import create_sweep, plan
    from experiments.sweeps.folder import ROOT
    from experiments.sweeps.launch import make_executor
    from experiments.sweeps.matching import match_costs

    with user_errors():
        where = place(name, folder, root=ROOT)
        given = with_generators(words or [], generators)
        chosen = choose_sweep(task, given, config, zipped or [])
        if match is not None:
            chosen = match_costs(chosen, match, announce=lambda text: err.print(plain(text)))
        warn_of(group.members[0].config for group in plan(chosen).groups)
        if dry_run:
            expanded = plan(chosen, memory=True)
            print_result(plan_rows(expanded), plan_tables(expanded), as_json)
            return
        worker = make_executor(executor, max_parallel, slurm, detach, trackers)
        check_members(chosen, where, executor)
        _run(create_sweep(chosen, where).path, worker, as_json)


def status(name: SweepName, as_json: Json = False) -> None:
    """Show how far the members of a sweep are, without disturbing a running sweep."""
    from experiments.sweep_commands import status_table
    from experiments.sweeps import status as read_status

    with user_errors():
        rows = read_status(name)
        print_result([row._asdict() for row in rows], status_table(rows), as_json)


def resume(
    name: SweepName,
    executor: ExecutorName = "local",
    max_parallel: MaxParallel = None,
    slurm: SlurmOption = None,
    detach: Detach = False,
    trackers: Trackers = None,
    as_json: Json = False,
) -> None:
    """Go on with a sweep that was stopped or killed; members that have ended stay as they are."""
    from experiments.sweeps import open_sweep
    from experiments.sweeps.launch import make_executor

    with user_errors():
        worker = make_executor(executor, max_parallel, slurm, detach, trackers)
        _run(open_sweep(name).path, worker, as_json)


def _run(folder: Path, executor: "Executor", as_json: bool) -> None:
    from experiments.sweep_commands import summary
    from experiments.sweeps import run_sweep
    from experiments.sweeps import status as read_status

    with endings(folder):
        results = run_sweep(folder, executor=executor)
    rows = read_status(folder)
    data = {
        "sweep": str(folder),
        "results": str(results),
        "members": [row._asdict() for row in rows],
    }
    text = f"{folder}: {summary(rows)}\nnext: plstm-seq results {folder}"
    print_result(data, text, as_json)


@contextmanager
def endings(folder: Path) -> Iterator[None]:
    """Ends the command with advice if the block is interrupted or a group fails."""
    from experiments.sweeps.executors import GroupsFailedError

    try:
        yield
    except KeyboardInterrupt:
        again = f"plstm-seq resume {shlex.quote(str(folder))}"
        announce(f"stopped; continue with: {again}")
        raise typer.Exit(130) from None
    except GroupsFailedError as error:
        print_error(f"{error}; try again: plstm-seq resume {folder}")
        raise typer.Exit(1) from None


def cross_validate(
    assignments: Annotated[
        list[str],
        typer.Argument(
            metavar="data=PATH [KEY=VALUE]...", help="The data set, and fields of the config."
        ),
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

    Example: plstm-seq cross-validate data=MUTAG mixer=gin width=48. Give the same command with the
    same --name again to go on where it was stopped. The default steps are 100 epochs in batches of
    64; if you set another training.batch_size, set training.steps too.
    """
    from experiments import commands
    from experiments.cross_validation import create_folds, folds, folds_table
    from experiments.cross_validation import cross_validate as validate
    from experiments.sweep_commands import check_members
    from experiments.sweeps.folder import ROOT

    with user_errors():
        where = commands.place(name, folder, root=ROOT)
        config = commands.choose_config("tu", assignments, None, None, resume=False)
        check_members(folds(config), where, executor)
        made = create_folds(config, where).path
        with endings(made):
            result = validate(config, made, executor=executor, max_parallel=max_parallel)
    print_result({"folder": str(made), **result.document()}, folds_table(result), as_json)
