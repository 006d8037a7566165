"""The work on one group: train its members in one program, and evaluate each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from experiments.evaluating import evaluate
from experiments.run import Run, RunError
from experiments.running import make_trackers, train_members
from experiments.sweeps.folder import SweepFolder

# What is left to do about a member that ended, and whose last checkpoint is damaged.
_AGAIN = "to train it again from the one before: plstm-seq train"
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

    Members that have ended are not trained again, and those with an evaluation not evaluated. One
    of which a file is damaged is left as it is; the others go on.

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
        MembersFailedError: some members could not be trained or evaluated, the others were.
        KeyboardInterrupt: Ctrl-C; every member was saved.
    """
    members = folder.plan.group(group).members
    with folder.lock(group) as held:
        if not held:
            announce(f"{group}: {folder.holder(group) or 'another process'} works on it; skipped")
            return "busy"
        failures = Failures()
        runs = [folder.run(member) for member in members]
        left = []
        for run, member in zip(runs, members, strict=True):
            with failures.of(run):
                folder.create_run(member)
                if not run.is_trained:
                    left.append(run)
        if left:
            announce(f"{group}: training {_count(left)}")
            results = train_members(
                left,
                progress=progress,
                events=folder.events(group),
                trackers=lambda run: make_trackers(trackers, run, folder.name),
            )
            for run, result in zip(left, results, strict=True):
                if result.status == "failed":
                    failures.note(run, result.error)
        _evaluate(group, runs, failures, announce)
        failures.raise_if_any(len(members))
        return "done"


class MembersFailedError(RunError):
    """Some members of a group could not be trained or evaluated; the others were."""


class Failures:
    """What went wrong with members, while the others go on."""

    def __init__(self):
        self._reasons: dict[str, object] = {}

    @contextmanager
    def of(self, run: Run) -> Iterator[None]:
        """Notes what goes wrong in the block: a damaged file, a folder that cannot be written."""
        try:
            yield
        except (RunError, OSError) as error:
            self.note(run, error)

    def note(self, run: Run, reason: object) -> None:
        """Notes why a member failed; the first reason counts."""
        self._reasons.setdefault(run.name, reason)

    def __contains__(self, run: Run) -> bool:
        return run.name in self._reasons

    def raise_if_any(self, members: int) -> None:
        """Raises MembersFailedError with all reasons, if there are any."""
        if self._reasons:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items())
            raise MembersFailedError(f"{len(self._reasons)} of {members} members: {reasons}")


def _evaluate(
    group: str, runs: Sequence[Run], failures: Failures, announce: Callable[[str], None]
) -> None:
    left = []
    for run in runs:
        with failures.of(run):
            if run not in failures and not run.is_evaluated:
                left.append(run)
    if left:
        announce(f"{group}: evaluating {_count(left)}")
    for run in left:
        with failures.of(run):
            result = evaluate(run)
            if result.notes:
                failures.note(run, f"{result.notes[0]}; {_AGAIN} --folder {run.folder} --resume")


def _count(runs: Sequence[Run]) -> str:
    return "1 member" if len(runs) == 1 else f"{len(runs)} members"
