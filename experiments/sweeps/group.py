"""Does the work on one group: trains its members in one program, and evaluates each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from experiments.evaluating import evaluate
from experiments.run import Run, RunError
from experiments.running import make_trackers, train_members
from experiments.sweeps.folder import SweepFolder

# Advice for a member that has ended, but whose last checkpoint is damaged.
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
    """Does the remaining work of a group, and goes on from checkpoints where there are some.

    Members that have ended are not trained again, and members with a complete evaluation are not
    evaluated again. A member with a damaged file is left as it is, and the others go on.

    Args:
        folder: the sweep.
        group: the name of the group.
        progress: whether progress is written to standard error.
        trackers: names of trackers that every member has in addition to its files, see
            `make_trackers`.
        announce: called with a line of text when something begins.

    Returns:
        "done", or "busy" if another process works on the group; then nothing was done.

    Raises:
        ConfigError: there is no such group.
        MembersFailedError: some members could not be trained or evaluated; the others were.
        KeyboardInterrupt: Ctrl-C stopped the work; every member was saved.
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
    """Collects the reasons why members failed, while the others go on."""

    def __init__(self):
        self._reasons: dict[str, object] = {}

    @contextmanager
    def of(self, run: Run) -> Iterator[None]:
        """Notes errors in the block, such as a damaged file or a folder that cannot be written."""
        try:
            yield
        except (RunError, OSError) as error:
            self.note(run, error)

    def note(self, run: Run, reason: object) -> None:
        """Notes why a member failed; only its first reason is kept."""
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
