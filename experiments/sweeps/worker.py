"""A process for one group: `python -m experiments.sweeps.worker FOLDER GROUP [TRACKER]...`.

It goes on from checkpoints, so it may be killed and started again at any time. It ends at once if
another process works on the group. At SIGTERM, as at Ctrl-C, it saves all members before it ends.

Exit codes: 0: done; 3: another process works on the group; 130: interrupted; 1: it failed.
"""

import sys
from typing import TextIO

from experiments.sweeps.executors import BUSY, DONE, INTERRUPTED
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.group import run_group
from experiments.sweeps.rows import gather
from plstm_seq.training.interrupt import terminate_as_interrupt


def work(folder: str, group: str, *trackers: str, stream: TextIO | None = None) -> int:
    """Does the remaining work of a group.

    Args:
        folder: the folder of the sweep.
        group: the name of the group.
        *trackers: names of trackers that members have in addition to their files.
        stream: the stream to which a line is printed when something begins; None: standard error.

    Returns:
        The exit code.
    """

    def announce(text: str) -> None:
        print(text, file=stream or sys.stderr, flush=True)

    with terminate_as_interrupt():
        try:
            outcome = run_group(SweepFolder(folder), group, trackers=trackers, announce=announce)
            gather(folder)
        except KeyboardInterrupt:
            announce(f"{group}: stopped; all members are saved")
            return INTERRUPTED
    return DONE if outcome == "done" else BUSY


if __name__ == "__main__":
    sys.exit(work(*sys.argv[1:]))
