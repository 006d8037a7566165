"""Makes a new run from one whose transitions are rounded to an exact representation."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

from experiments.files import write_json
from experiments.new_runs import create_run
from experiments.run import ROOT, Run, RunError, as_run
from experiments.running import write_cost
from experiments.status import RunStatus, write_status
from plstm_seq.files import write_whole
from plstm_seq.probing import Rounded, RoundingError, round_model
from plstm_seq.training import Checkpoints, FitResult, init_state, make_optimizer
from plstm_seq.training.curriculum import START, Standing

NOTE = "rounded.json"


def round_run(
    run: Run | str | Path, folder: str | Path | None = None, *, num_sequences: int = 64
) -> tuple[Run, Rounded]:
    """Rounds a run's transitions to exact ones, and keeps the rounded model as a new run.

    `plstm_seq.probing.round_model` says how transitions are rounded. The new run has the config of
    the old one, but its transitions are a table by token and it has no source. It has a checkpoint
    at the same step, and no records, as nothing was trained. Its file `rounded.json` says which run
    and checkpoint it was made from, and how near that model was to the rounded one.

    Args:
        run: a run with a checkpoint, or its folder or name.
        folder: the folder of the new run; None: `runs/<name of the run>-rounded`.
        num_sequences: number of random sequences of the training length on which the answers of
            both models are compared.

    Returns:
        The new run, and a report of the rounding.

    Raises:
        RunError: the model cannot be rounded, there is no checkpoint, or the folder is not empty.
        OSError: a file could not be written; the new folder is removed.

    Example:
        >>> from experiments import round_run
        >>> run, rounded = round_run("parity-1")  # a run, see `experiments.train`
        >>> run.name, rounded.group.order, rounded.wrong_steps
        ('parity-1-rounded', 2, 0)
    """
    run = as_run(run)
    folder = ROOT / f"{run.name}-rounded" if folder is None else Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} exists already: take another name")
    length = run.config.training.curriculum.longest
    try:
        rounded = round_model(run.model, length=length, num_sequences=num_sequences)
    except RoundingError as error:
        raise RunError(f"run {run.folder} cannot be rounded: {error}") from None
    training = replace(run.config.training, average=None)  # there is only one set of weights
    config = replace(run.config, model=rounded.model.config, training=training)
    new = create_run(config, folder)
    try:
        _fill(new, run, rounded, length, num_sequences)
    except BaseException:
        shutil.rmtree(new.folder, ignore_errors=True)
        raise
    return new, rounded


def _fill(new: Run, run: Run, rounded: Rounded, length: int, num_sequences: int) -> None:
    config, step, given = run.config, run.checkpoint.step, run.status
    optimizer = make_optimizer(config.training.optimizer, config.training.steps)
    _, state = init_state(rounded.model, optimizer, jax.random.key(config.seed))
    solved = config.training.solved
    streak = solved.checks if solved and given and given.status == "solved" else 0
    notes = {"streak": streak, "record": {}, "standing": _standing(run)}
    with Checkpoints(new.checkpoints, keep=config.training.keep_checkpoints) as checkpoints:
        checkpoints.save(replace(state, step=jnp.asarray(step, jnp.int32)), notes)
    note = {
        "run": str(run.folder.resolve()),
        "step": step,
        "checkpoint": run.checkpoint.identity,
        "length": length,
        "num_sequences": num_sequences,
        **summary(rounded),
    }
    write_json(new.folder / NOTE, note)
    write_whole(new.metrics_path, "")
    ending = RunStatus("interrupted", step) if given is None else given._replace(step=step)
    write_cost(new, FitResult("finished", step, {}))
    write_status(new, ending)


def _standing(run: Run) -> Standing:
    """Returns the stage that a run's training has reached, where the rounded run would go on."""
    stages = [(record["stage"], record["step"]) for record in run.metrics if "stage" in record]
    if not stages:
        return START
    last = stages[-1][0]
    return Standing(int(last) - 1, max((int(s) for stage, s in stages if stage < last), default=0))


def summary(rounded: Rounded) -> dict[str, Any]:
    """Returns what rounding did as a dictionary that JSON can hold."""
    return {
        "order": rounded.group.order,
        "labels": len(rounded.group.labels),
        "agreement": rounded.group.agreement,
        "before": rounded.before,
        "after": rounded.after,
        "wrong_steps": rounded.wrong_steps,
        "steps": rounded.steps,
        "margin": rounded.margin,
        "heads": [asdict(head) for head in rounded.heads],
    }


def table(rounded: Rounded) -> Table:
    """Returns a table of what rounding did to each head."""
    lines = Table("head", "dimensions", "defect before", "after", "moved", box=None)
    for number, head in enumerate(rounded.heads):
        kept = [f"{head.after:.1e}", f"{head.moved:.2g}"] if head.dim else ["left out", ""]
        lines.add_row(str(number), str(head.dim), f"{head.before:.2g}", *kept)
    return lines
