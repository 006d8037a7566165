"""Where the groups of a sweep are worked on: this process, worker processes, a cluster."""

from collections.abc import Sequence
from typing import Literal

from experiments.commands import check_trackers
from experiments.config import ConfigError
from experiments.sweeps.executors.base import Executor, GroupsFailedError

Name = Literal["local", "processes", "slurm"]
NAMES: tuple[Name, ...] = ("local", "processes", "slurm")


def make_executor(
    name: str,
    *,
    max_parallel: int | None = None,
    slurm: Sequence[str] = (),
    detach: bool = False,
    trackers: Sequence[str] = (),
    progress: bool = True,
) -> Executor:
    """The executor of a name.

    Args:
        name: one of `NAMES`.
        max_parallel: how many groups are worked on at once; None: one (slurm: as many as start).
        slurm: `option=value` each, see `slurm.SlurmOptions`.
        detach: return once the jobs are in Slurm's queue.
        trackers: names of those that members have beside their own files: `wandb`.
        progress: whether progress is written to standard error, where this process trains.

    Raises:
        ConfigError: there is no such executor, or it does not take what is given.
    """
    if max_parallel is not None and max_parallel < 1:
        raise ConfigError(f"max_parallel must be 1 or more, got {max_parallel}")
    if slurm and name != "slurm":
        raise ConfigError(f"options for Slurm go with --executor slurm, not {name}")
    if detach and name != "slurm":
        raise ConfigError(f"--detach goes with --executor slurm, not {name}")
    if trackers and name == "slurm":
        raise ConfigError("--tracker goes with --executor local or processes, not slurm")
    check_trackers(trackers)
    if name == "local":
        from experiments.sweeps.executors.local import LocalExecutor

        if max_parallel not in (None, 1):
            raise ConfigError(
                "this process works on one group at a time: several at once take --executor "
                "processes"
            )
        return LocalExecutor(progress=progress, trackers=trackers)
    if name == "processes":
        from experiments.sweeps.executors.processes import ProcessesExecutor

        return ProcessesExecutor(max_parallel or 1, trackers)
    if name == "slurm":
        from experiments.sweeps.executors.slurm import SlurmExecutor, read_options

        return SlurmExecutor(read_options(slurm), max_parallel=max_parallel, detach=detach)
    raise ConfigError(f"unknown executor {name!r}; there are {', '.join(NAMES)}")


__all__ = ["NAMES", "Executor", "GroupsFailedError", "make_executor"]
