"""Running cells of a protocol, and saying what they would be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.protocols.cells import Cell
from experiments.protocols.models import model
from experiments.protocols.protocol import Protocol
from experiments.sweeps import plan, run_sweep
from experiments.sweeps.executors import Executor


def cells(
    protocol: Protocol,
    *,
    models: Sequence[str] = ("plstm",),
    words: Sequence[str] = (),
    tasks: Sequence[str] | None = None,
    scale: float = 1.0,
    seeds: Sequence[int] | None = None,
    rates: Sequence[float] | None = None,
) -> list[Cell]:
    """Every model on every task.

    Args:
        protocol: whose cells.
        models: see `experiments.protocols.models.model`.
        words: `field=value` that every model takes.
        tasks: by their names in the protocol; None: all.
        scale: multiplies steps and warm-up, never test lengths or samples.
        seeds: None: as many as published.
        rates: learning rates; None: those published.

    Raises:
        ConfigError: there is no such model or task, or a field or number is wrong.
    """
    found = [
        Cell(
            protocol,
            task,
            model(protocol, name, words),
            scale,
            None if seeds is None else tuple(seeds),
            None if rates is None else tuple(rates),
        )
        for name in dict.fromkeys(models)
        for task in dict.fromkeys(protocol.tasks if tasks is None else tasks)
    ]
    for cell in found:  # a mistake in one should not show after hours of another
        cell.sweep  # noqa: B018 (it is made, and kept)
    return found


def run_cell(cell: Cell, *, executor: str | Executor = "local") -> Path:
    """Does all that is left to do of a cell; so it also resumes one that was stopped.

    Args:
        cell: of `cells`.
        executor: see `run_sweep`.

    Returns:
        The folder of its sweep.

    Raises:
        RunError: something else is in the folder, or a group failed.
        KeyboardInterrupt: Ctrl-C; everything is saved.
    """
    folder = cell.create().path
    run_sweep(folder, executor=executor)
    return folder


def planned(cell: Cell) -> dict[str, Any]:
    """What a cell would be: its folder, members, programs and budget."""
    expanded, training = plan(cell.sweep), cell.sweep.configs()[0].training
    return {
        "model": cell.model.text,
        "task": cell.task,
        "scale": cell.scale,
        "members": len(expanded.members),
        "programs": len(expanded.groups),
        "steps": training.steps,
        "batch": training.batch_size,
        "folder": str(cell.folder),
    }
