"""Executes the notebooks, and holds every .ipynb against the .py that it is made from.

`check.py` runs them all with small settings in a temporary folder, warnings being errors, and keeps
nothing. `check.py --write [NAME ...]` runs them at full size and writes the .ipynb with outputs.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
LONGEST = 600
"""Seconds that a cell may take."""
STRICT = "import warnings\nwarnings.simplefilter('error')"
LENIENT = "warnings.simplefilter('ignore')  # what the kernel itself does when it ends"


def sources() -> list[Path]:
    """The notebooks as Python."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What a reader reads, without outputs."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def in_sync(source: Path) -> str | None:
    """What is wrong with the .ipynb of a source; None: nothing."""
    pair = source.with_suffix(".ipynb")
    if not pair.exists():
        return f"{pair.name} is missing"
    written = nbformat.read(pair, as_version=4)
    if cells(written) != cells(jupytext.read(source)):
        return f"{pair.name} differs from {source.name}"
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in written.cells):
        return f"{pair.name} has cells that were not executed"
    return None


def execute(source: Path, *, small: bool) -> nbformat.NotebookNode:
    """Runs a notebook in an empty folder; CellExecutionError if a cell fails."""
    notebook = jupytext.read(source)
    made = notebook.cells
    if small:
        first, last = map(nbformat.v4.new_code_cell, (STRICT, LENIENT))
        notebook.cells = [first, *made, last]
    os.environ["PLSTM_SEQ_SMALL"] = "1" if small else "0"
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook,
            timeout=LONGEST,
            kernel_name="python3",
            resources=resources,
            record_timing=False,
        )
        client.execute()
    return notebook


def write(source: Path) -> None:
    """Runs a notebook at full size and keeps it with its outputs."""
    notebook = execute(source, small=False)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def main() -> int:
    """Does what the arguments say; the number of notebooks with something wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="of notebooks, such as 01; none: all")
    parser.add_argument("--write", action="store_true", help="full size; keep the outputs")
    arguments = parser.parse_args()
    wrong = 0
    for source in sources():
        if arguments.names and not source.name.startswith(tuple(arguments.names)):
            continue
        began = time.perf_counter()
        try:
            if arguments.write:
                write(source)
            else:
                execute(source, small=True)
            problem = in_sync(source)
        except CellExecutionError as error:
            problem = str(error)
        seconds = time.perf_counter() - began
        print(f"{source.stem}: {seconds:.0f} s: {problem or 'fine'}", flush=True)
        wrong += problem is not None
    if wrong:
        print("after a change: python notebooks/check.py --write NAME", file=sys.stderr)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
