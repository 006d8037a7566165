"""Kernels under interpretation: jax cannot lower `custom_partitioning` around its effects."""

from collections.abc import Callable
from typing import Any


class Unpartitioned:
    """Stands in for `custom_partitioning`, where nothing is sharded."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def def_partition(self, *_: Any, **__: Any) -> None:
        """Nothing is partitioned."""

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)
