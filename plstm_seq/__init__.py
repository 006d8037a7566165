"""pLSTM layers for sequences, grids and graphs with non-diagonal transitions (arXiv 2506.11997)."""

import os
import re
import sys
import warnings
from importlib.metadata import version
from typing import Any

__version__ = "0.1.0"

_OPTION = "--xla_cpu_experimental_ynn_fusion_type"


def _without_ynnpack() -> None:
    """Leaves YNNPACK out of what XLA compiles for a CPU, unless XLA_FLAGS says something about it.

    In jaxlib 0.10.2 and later it computes some sums of products wrongly (jax-ml/jax#39103), ends
    the process at others (#39257, #40412), and takes several times as long for small ones.
    """
    # XLA stops at an option that it does not know, and later versions may not know this one.
    concerned = (0, 10, 2) <= tuple(map(int, re.findall(r"\d+", version("jaxlib"))[:3])) < (0, 13)
    flags = os.environ.get("XLA_FLAGS", "")
    if not concerned or _OPTION in flags:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_OPTION}=".strip()
    # XLA reads its flags once.
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    if getattr(bridge, "backends_are_initialized", bool)() and bridge.default_backend() == "cpu":
        warnings.warn(
            f"jax {version('jax')} was used before plstm_seq was imported, and computes some sums "
            f"wrongly on a CPU: import plstm_seq first, or set XLA_FLAGS={_OPTION}=",
            stacklevel=2,
        )


_without_ynnpack()
