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
    """Tells XLA not to use YNNPACK on a CPU, unless XLA_FLAGS mentions this option.

    From jaxlib 0.10.2 on, XLA lets YNNPACK compute sums of products. In 0.10.2 and 0.11 some of
    them are wrong (jax-ml/jax#39103) and others end the process (#39257, #40412). Small sums take
    several times as long, also in 0.12.
    """
    # XLA aborts at an unknown option, and later versions may not have this one.
    jaxlib = tuple(map(int, re.findall(r"\d+", version("jaxlib"))[:3]))
    flags = os.environ.get("XLA_FLAGS", "")
    if not (0, 10, 2) <= jaxlib < (0, 13) or _OPTION in flags:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_OPTION}=".strip()
    # XLA reads its flags only once.
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    late = getattr(bridge, "backends_are_initialized", bool)()
    if jaxlib < (0, 12) and late and bridge.default_backend() == "cpu":
        warnings.warn(
            f"jax {version('jax')} was used before plstm_seq was imported, and computes some sums "
            f"wrongly on a CPU: import plstm_seq first, or set XLA_FLAGS={_OPTION}=",
            stacklevel=2,
        )


_without_ynnpack()
