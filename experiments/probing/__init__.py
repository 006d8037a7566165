"""Probes of a run: they compare what its model has learned with what is known of its task.

found = probe(load_run("runs/s3"))
print(found["representations"].summary)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from experiments.files import check_writable
from experiments.plotting import save
from experiments.probing.carrying import Carried, carry, carry_snapped, exact_horizons
from experiments.probing.probes import PROBES, Probed, probes_of, table
from experiments.probing.subject import TaskGroup, task_group
from experiments.run import Run, RunError, as_run
from plstm_seq.files import write_whole
from tasks.options import nearest

__all__ = [
    "PROBES",
    "Carried",
    "Probed",
    "TaskGroup",
    "carry",
    "carry_snapped",
    "exact_horizons",
    "probe",
    "table",
    "task_group",
]


def probe(
    run: Run | str | Path,
    *,
    only: Iterable[str] | None = None,
    output: str | Path | None = None,
    block: int = 0,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Probed]:
    """Probes a trained run, and writes figures and `probes.json` into a folder.

    A probe that does not suit the run is left out, unless it is named in `only`: some need a group
    behind the task, or a pLSTM layer. For models over images and grids there is one probe, `gates`,
    which draws their gates over an example.

    Args:
        run: a trained run, or its folder or name.
        only: names of `PROBES`; None: all.
        output: the folder to write to; None: the folder `probes` in the run's folder.
        block: the number of the block whose gates are drawn.
        announce: a function that is called with a line for each omitted probe and the reason.

    Returns:
        The outcome of each probe, by its name.

    Raises:
        RunError: the run has no checkpoint, or a probe named in `only` does not suit it.
        ValueError: there is no probe of that name.

    Example:
        >>> from experiments import probe
        >>> found = probe("parity-1", only=["group"])  # a run, see `experiments.train`
        >>> found["group"].summary["order"], found["group"].summary["smallest_dim"]
        (2, 1)
    """
    named = None if only is None else list(only)
    for name in named or ():
        if name not in PROBES:
            raise ValueError(f"no probe {name!r}; {nearest(name, list(PROBES))}")
    run = as_run(run)
    if output is None:
        check_writable(run.folder, "probes")
    suited = probes_of(run, block)
    folder = run.folder / "probes" if output is None else Path(output)
    found: dict[str, Probed] = {}
    for name in PROBES if named is None else named:
        try:
            if name not in suited:
                raise RunError("it is for models of sequences")
            outcome = suited[name]()
        except RunError as error:
            if named is not None:
                raise
            if announce is not None:
                announce(f"{name}: left out: {error}")
            continue
        save(outcome.figure, folder / name)
        found[name] = outcome
    summaries = {name: outcome.summary for name, outcome in found.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "probes.json", json.dumps(summaries, indent=2) + "\n")
    return found
