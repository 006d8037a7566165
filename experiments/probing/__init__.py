"""What a run has learned: its model, probed with what its task knows.

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
    """Probes a trained run; figures and `probes.json` go into a folder.

    A probe that the run does not suit (no group behind the task, no pLSTM layer) is left out with
    the reason, unless it is named. A model over images or grids has the probe `gates` alone: a
    picture of its gates over an example.

    Args:
        run: a trained run, or its folder or name.
        only: names of `PROBES`; None: all.
        output: the folder; None: `probes` in the run's.
        block: the number of the block whose gates are drawn.
        announce: is told what was left out, and why.

    Returns:
        The outcomes by name.

    Raises:
        RunError: the run has no checkpoint, or a probe that was named does not suit it.
        ValueError: there is no probe of that name.

    Example:
        The group behind the task of a run.

        >>> import tempfile
        >>> from experiments import default_config, override, probe, train
        >>> words = ["mixer=rnn", "width=8", "num_blocks=1", "training.steps=2", "stages=[[4, 2]]"]
        >>> config = override(default_config("parity"), words)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(config, f"{folder}/run", progress=False)
        ...     found = probe(run, only=["group"])
        >>> found["group"].summary["order"], found["group"].summary["complexity"]
        (2, 'TC0')
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
