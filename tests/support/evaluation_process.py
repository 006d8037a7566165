"""Evaluates a run in a process of its own: `evaluation_process.py FOLDER SNAP MOMENT`.

It notes where it is at every moment, and at the one given (the number of the place, or `remove`,
when the rows are kept) it kills itself by SIGKILL.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # Compile as the tests do: to the same bits.
    runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    from experiments import bookmarks, evaluate, load_run

    folder, snap_every, moment = sys.argv[1:]
    bookmarks.SECONDS_BETWEEN = 0.0
    noted = 0

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def put_and_die(self, *place):
        global noted
        put(self, *place)
        noted += 1
        if noted == int(moment):
            die()

    if moment == "remove":
        bookmarks.Bookmarks.remove = die
    else:
        put = bookmarks.PassBookmark.put
        bookmarks.PassBookmark.put = put_and_die
    evaluate(load_run(folder), snap_every=int(snap_every))
