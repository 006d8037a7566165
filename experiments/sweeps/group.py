"""The work on one group: train its members in one program, and evaluate each."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from experiments.commands import make_trackers
from experiments.evaluating import evaluate
from experiments.run import Run
from experiments.running import train_members
from experiments.sweeps.folder import SweepFolder

Outcome = Literal["done", "busy"]


def run_group(
    folder: SweepFolder,
    group: str,
    *,
    progress: bool = True,
    trackers: Sequence[str] = (),
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Does what is left to do of a group, from checkpoints where there are some.

    Members that have ended are not trained again, and those with an evaluation not evaluated.

    Args:
        folder: of the sweep.
        group: its name.
        progress: whether progress is written to standard error.
        trackers: names of those that every member has beside its own files, see `make_trackers`.
        announce: is told what begins.

    Returns:
        "busy" if another process works on the group: then nothing was done.

    Raises:
        ConfigError: there is no such group.
        KeyboardInterrupt: Ctrl-C; every member was saved.
    """
    members = folder.plan.group(group).members
    with folder.lock(group) as held:
        if not held:
            announce(f"{group}: {folder.holder(group) or 'another process'} works on it; skipped")
            return "busy"
        runs = [folder.create_run(member) for member in members]
        left = [run for run in runs if not run.is_trained]
        if left:
            announce(f"{group}: training {_count(left)}")
            _train(
                left,
                progress=progress,
                events=folder.events(group),
                trackers=lambda run: make_trackers(trackers, run, folder.name),
            )
        _evaluate(group, runs, announce)
        return "done"


def _train(runs: Sequence[Run], **options: Any) -> None:
    for run in runs:  # what was evaluated half-trained is not what there will be
        if run.status is None or not run.status.ended:
            run.evaluation_path.unlink(missing_ok=True)
    train_members(runs, **options)


def _evaluate(group: str, runs: Sequence[Run], announce: Callable[[str], None]) -> None:
    left = [run for run in runs if not run.is_evaluated]
    if left:
        announce(f"{group}: evaluating {_count(left)}")
    for run in left:
        evaluate(run)


def _count(runs: Sequence[Run]) -> str:
    return "1 member" if len(runs) == 1 else f"{len(runs)} members"
