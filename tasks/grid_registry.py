"""Tasks over images and grids by name."""

from __future__ import annotations

from typing import Any

from tasks.arrow_pointing import ArrowPointing
from tasks.base import shown
from tasks.grid import GridTask, ImageTask
from tasks.grid_parity import GridParity
from tasks.grid_word_problem import GridWordProblem
from tasks.registry import make, nearest

_TASKS: dict[str, type[ArrowPointing | GridParity | GridWordProblem]] = {
    "arrow_pointing": ArrowPointing,
    "grid_parity": GridParity,
    "grid_word_problem": GridWordProblem,
}


def grid_names() -> list[str]:
    """List the names of all tasks over images and grids."""
    return sorted(_TASKS)


def get_grid(name: str, **options: Any) -> ImageTask | GridTask:
    """Make a task over images or grids.

    Args:
        name: One of `grid_names()`.
        **options: Fields of the task.

    Returns:
        The task: an `ImageTask` or a `GridTask`.

    Raises:
        ValueError: If there is no task or option of that name (with the nearest names), or the
            value of an option is not allowed.
        TypeError: If the value of an option has the wrong type.

    Example:
        >>> get_grid("grid_word_problem", group="S5").chance
        0.008333333333333333
    """
    if name not in _TASKS:
        raise ValueError(f"unknown task {shown(name)}; {nearest(name, grid_names())}")
    return make(name, _TASKS[name], {}, options)
