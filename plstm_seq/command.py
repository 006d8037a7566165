"""The console command, and the check that no other package hides those of this project.

`tasks` and `experiments` are names that other projects have, too. Python takes the first that it
finds: in a notebook one beside the notebook, in a script one beside the script.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_BESIDE = ("tasks", "experiments")


def check_names() -> None:
    """Checks that the packages beside this one are those that Python finds.

    Raises:
        ImportError: another package or module of one of the names comes first.
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
    """The console command `plstm-seq`."""
    try:
        check_names()
    except ImportError as error:
        sys.exit(f"error: {error}")
    import_module("experiments.cli").main()
