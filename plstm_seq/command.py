"""The console command, and the check that no other package hides those of this project.

Other projects also have packages named `tasks` or `experiments`. Python imports the first one that
it finds, which may be one in the folder of the notebook or of the script.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_BESIDE = ("tasks", "experiments")


def check_names() -> None:
    """Checks that Python finds this project's own packages `tasks` and `experiments`.

    Raises:
        ImportError: Python finds another package or module of one of these names first.
    """
    root = Path(__file__).resolve().parents[1]
    for name in _BESIDE:
        found = getattr(sys.modules.get(name), "__file__", None)
        if found is None:
            spec = find_spec(name)
            found = None if spec is None else spec.origin
        if found is None or Path(found).resolve() != root / name / "__init__.py":
            raise ImportError(
                f"the package {name} of plstm-seq is hidden by {found}: rename that one, or start "
                "Python in another folder"
            )


def main() -> None:
    """Runs the console command `plstm-seq`."""
    try:
        check_names()
    except ImportError as error:
        sys.exit(f"error: {error}")
    import_module("experiments.cli").main()
