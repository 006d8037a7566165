"""Works on a sweep in a process of its own: `sweep_process.py FOLDER [MOMENT | READY-FILES]`.

MOMENT is when the process kills itself, by SIGKILL: `member` (the folder of a member is there and
empty), `record` (a record is written that no checkpoint holds), or `evaluation` (a member is
evaluated, others are not).
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path


def kill_at(moment):
    from experiments import new_runs, status
    from experiments.sweeps import group

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "member":
        new_runs.store_config = die
    elif moment == "record":
        log = status.StatusTracker.log

        def log_and_die(self, record):
            log(self, record)
            if self.step == 4 and self.run.config.seed == 1:
                die()

        status.StatusTracker.log = log_and_die
    elif moment == "evaluation":
        evaluate = group.evaluate

        def evaluate_and_die(run):
            evaluate(run)
            die()

        group.evaluate = evaluate_and_die


def meet(folder, mine, other):
    """Waits for another process that meets this one."""
    (folder / mine).touch()
    while not (folder / other).exists():
        time.sleep(0.01)


if __name__ == "__main__":
    # Compile as the tests do: to the same bits.
    runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    from experiments.sweeps import run_sweep

    folder, *rest = sys.argv[1:]
    if len(rest) == 1:
        kill_at(rest[0])
    elif rest:
        meet(Path(folder).parent, *rest)
    run_sweep(folder)
