"""The command line: every command is a thin wrapper over a function of `experiments`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import plstm_seq
from experiments import cli_protocol, cli_results, cli_runs, cli_sweep
from experiments.console import (
    Json,
    RunName,
    announce,
    environment_problem,
    err,
    out,
    print_error,
    print_result,
    speak_in_lines,
    user_errors,
)

# Modules that take long to import (jax, flax, polars) are imported by the commands that need them.

app = typer.Typer(
    name="plstm-seq",
    help="Train pLSTM models on state-tracking tasks and measure how far they hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
tasks_app = typer.Typer(help="List the tasks, or show one.", invoke_without_command=True)


def main() -> None:
    """Runs the console command `plstm-seq`."""
    speak_in_lines()
    try:
        app()
    except Exception:  # jax can fail to start with many kinds of exceptions
        problem = environment_problem()
        if problem is None:
            raise
        print_error(problem)
        sys.exit(2)


def _activation() -> str:
    """Returns the line that activates the environment, or "" if none is needed.

    It is needed where `plstm-seq` was called by its path inside a virtual environment.
    """
    if os.environ.get("VIRTUAL_ENV") or sys.prefix == sys.base_prefix:
        return ""
    return f"  source {os.path.relpath(sys.prefix)}/bin/activate\n"


def _version(wanted: bool) -> None:
    if wanted:
        print(plstm_seq.__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version


@tasks_app.callback()
def _tasks(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_tasks(as_json)


@tasks_app.command("list")
def list_tasks(as_json: Json = False) -> None:
    """List the tasks."""
    from experiments import show
    from experiments.problems import task_names

    rows = [show.task_row(name) for name in task_names()]
    print_result(rows, show.task_list(rows, out.width), as_json)


@tasks_app.command("show")
def show_task(
    name: Annotated[str, typer.Argument(help="A task's name.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the task.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Length of the examples, or size of images and grids."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of examples.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the examples.")] = 0,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw examples of images or grids to this path, given without ending."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a task: its rule, its symbols, what its automaton demands, and some examples."""
    from experiments import commands, default_config, show

    with user_errors():
        given = commands.task_options(
            [f"task.{option.removeprefix('task.')}" for option in options or []]
        )
        task = default_config(name, **given).task.make()
        if picture is not None:
            from experiments.plotting import draw_examples

            files = draw_examples(task, picture, size=length, count=count, seed=seed)
            print_result([str(file) for file in files], "\n".join(map(str, files)), as_json)
            return
        description = show.describe(task, length=length, count=count, seed=seed)
        print_result(description, show.description(description), as_json)


@app.command(rich_help_panel="Train")
def train(
    task: Annotated[
        str | None,
        typer.Argument(help="A task; plstm-seq tasks lists them. Leave it out with --config."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Fields of the config, e.g. transition.dim=4."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Start from this config: a YAML file, a run's config.json, or the name of a "
            "recipe, such as deit3_t."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run goes to runs/NAME (default: runs/TASK-N).")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The run goes to this folder, which may be anywhere.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            metavar="",
            help="Continue the run that --name or --folder names from its last checkpoint.",
        ),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="Start from the last parameters of this run."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            metavar="",
            help="Train only about 50 steps of small batches, to see that everything works.",
        ),
    ] = False,
    generators: cli_sweep.Generators = None,
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="data=N",
            help="Split every batch over N devices (data=all: over all), which may belong to "
            "several processes.",
        ),
    ] = None,
    trackers: cli_sweep.Trackers = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="Print the fields that differ from the defaults; train nothing.",
        ),
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", metavar="", help="Print all fields of the config; train nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model on a task.

    Every field of the config can be set: plstm-seq train s3_word_problem transition=orthogonal
    transition.dim=3 learning_rate=1e-3 steps=2000. To see all fields: plstm-seq train TASK --full.
    """
    from experiments import commands

    with user_errors():
        given = commands.with_generators(assignments or [], generators)
        place = commands.place(name, folder)
        chosen = commands.choose_config(task, given, config, place, resume, start, quick)
        commands.warn_of([chosen])
        if dry_run or full:
            sys.stdout.write(commands.as_yaml(chosen, full))
            return
        run, record = _train(chosen, place, resume, mesh, trackers or [])
    summary = {"run": str(run.folder), **record}
    keys = ("step", "loss", "token_accuracy", "sequence_accuracy")
    if not run.has_accuracy:
        keys = ("step", "loss", *(key for key in record if key.startswith("validation_")))
    text = f"trained {run.folder}: " + ", ".join(f"{key} {record[key]:.4g}" for key in keys)
    following = f"\nnext: plstm-seq evaluate {run.folder}" if run.has_accuracy else ""
    print_result(summary, text + following, as_json)


def _train(
    chosen: Any, place: Path | None, resume: bool, mesh: str | None, trackers: list[str]
) -> tuple[Any, dict[str, Any]]:
    """Trains a run, and returns it with its last record.

    If training is interrupted, diverges or cannot write its files, a message says so and the
    command ends.
    """
    from experiments import commands, running
    from plstm_seq.training import NonFiniteLossError

    running.check_trackers(trackers)
    devices = commands.devices(mesh, chosen)
    run = commands.open_run(chosen, place, resume)
    try:
        record = commands.fit_and_report(run, running.make_trackers(trackers, run), devices)
    except KeyboardInterrupt:
        again = f"plstm-seq train {commands.named(run.folder)} --resume"
        announce(f"stopped; continue with: {again}")
        raise typer.Exit(130) from None
    except NonFiniteLossError as error:
        print_error(f"{error} Run: {run.folder}")
        raise typer.Exit(1) from None
    except OSError as error:
        print_error(f"{error}; training stopped. Run: {run.folder}")
        raise typer.Exit(1) from None
    return run, record


@app.command(rich_help_panel="Evaluate")
def evaluate(
    run: RunName,
    lengths: Annotated[
        str | None,
        typer.Option(help="Lengths of sequences, such as 64,256,4096 (default: the config's)."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Sizes of images or grids, such as 192,384 (default: the config's)."),
    ] = None,
    depths: Annotated[
        str | None, typer.Option(help="Depths of graphs, such as 4,8,16 (default: the config's).")
    ] = None,
    num_sequences: Annotated[
        int | None,
        typer.Option(min=1, help="Number of fresh sequences per length (default: the config's)."),
    ] = None,
    snap: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Measure a second time, and replace the state every N symbols by the learned "
            "prototype of the label that the model predicts.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure accuracy at lengths far beyond training; add it to the run's evaluation.parquet.

    Rows of other lengths, numbers of sequences and training steps are kept. If the command is
    stopped (Ctrl-C) or killed, give it again: it goes on where it stopped.
    """
    from experiments import commands, load_run, show
    from experiments import evaluate as evaluate_run
    from experiments.bookmarks import GOES_ON
    from experiments.evaluating import NotKeptError

    with user_errors():
        loaded = load_run(run)
        lost = None
        try:
            result = evaluate_run(
                loaded,
                commands.parse_sizes(loaded, length=lengths, size=sizes, depth=depths),
                num_sequences=num_sequences,
                snap_every=snap,
            )
        except NotKeptError as error:
            result, lost = error.result, error
        except KeyboardInterrupt as error:
            kept = GOES_ON in getattr(error, "__notes__", ())
            err.print(f"stopped; {GOES_ON if kept else 'nothing is kept of it'}")
            raise typer.Exit(130) from None
    print_result(show.evaluation_rows(result), show.evaluation_table(result), as_json)
    if lost is not None:
        print_error(lost)
        raise typer.Exit(1)


@app.command(rich_help_panel="Train")
def quickstart(
    folder: Annotated[
        Path | None,
        typer.Option(help="The folder of the runs and the figure (default: runs/quickstart-N)."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, such as 100..104.")] = "0",
    as_json: Json = False,
) -> None:
    """Train three small models in minutes, and see which stay right beyond the trained lengths."""
    from experiments import demonstration
    from experiments.sweeps.values import whole_numbers

    with user_errors():
        numbers = whole_numbers("--seeds", seeds)
        results, files = demonstration.quickstart(
            folder, seeds=numbers, announce=lambda text: err.print(f"[bold]{text}[/bold]")
        )
    rows = demonstration.result_rows(results)
    print_result(rows, demonstration.result_table(rows), as_json)
    if not as_json:
        out.print(f"figure: {files[0]} and {files[1].suffix[1:]}")
        out.print(f"\nnext:\n{_activation()}  plstm-seq tasks\n  plstm-seq train s3_word_problem")


@app.command(rich_help_panel="Train")
def tune(
    shapes: Annotated[
        str,
        typer.Option(help="The shapes to time. quick: one of each kind; full: a grid of shapes."),
    ] = "quick",
    output: Annotated[
        Path | None,
        typer.Option(help="The JSON file to write (default: the one that plstm_1d reads)."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="List what would be timed; time nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure which implementation of the 1D op is fastest on this device for each shape."""
    from experiments import tuning

    with user_errors():
        if dry_run:
            plan = tuning.plan(tuning.shapes_named(shapes))
            print_result(plan, "\n".join(plan), as_json)
            return
        path = tuning.tune(
            tuning.shapes_named(shapes), output, announce=lambda text: err.print(text)
        )
    print_result(str(path), f"wrote {path}", as_json)


# The commands that are defined in other files, in the order of `plstm-seq --help`.
for _panel, _commands in {
    "Train": (cli_sweep.cross_validate,),
    "Sweep": (
        cli_sweep.sweep,
        cli_sweep.status,
        cli_sweep.resume,
        cli_results.results,
        cli_results.compare,
        cli_results.report,
    ),
    "Evaluate": (cli_runs.decode, cli_runs.round_transitions),
    "Look": (cli_runs.plot, cli_runs.probe),
    "Share": (cli_runs.export,),
}.items():
    for _command in _commands:
        name = _command.__name__.removesuffix("_transitions").replace("_", "-")
        app.command(name, rich_help_panel=_panel)(_command)
app.add_typer(tasks_app, name="tasks", rich_help_panel="Look")
app.add_typer(cli_protocol.app, name="protocol", rich_help_panel="Sweep")
