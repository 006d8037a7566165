"""The packages that reading images needs, loaded when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def package(name: str, of: str) -> Any:
    """Load a module of an optional package.

    Args:
        name: Of the module, such as `PIL.Image`.
        of: Name under which its package is installed.

    Raises:
        ValueError: If the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ValueError(
            f"images from files need the package {of}: pip install 'plstm-seq[vision]'"
        ) from None


def pillow(module: str) -> Any:
    """A module of Pillow, such as `Image`."""
    return package(f"PIL.{module}", "pillow")
