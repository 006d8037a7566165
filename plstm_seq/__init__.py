"""pLSTM layers for sequences, grids and graphs with non-diagonal transitions (arXiv 2506.11997)."""

import os
from importlib.metadata import version
from pathlib import Path

__version__ = "0.1.0"

# On x86 without AVX-512 the programs that jax 0.10.2 makes of some batches of products crash. That
# part of its compiler is left out there; it has to be told before anything is compiled.
_FLAG, _CPU = "--xla_cpu_experimental_ynn_fusion_type", Path("/proc/cpuinfo")
if version("jax") == "0.10.2" and _FLAG not in os.environ.get("XLA_FLAGS", "") and _CPU.exists():
    features = _CPU.read_text(encoding="utf-8", errors="replace")
    if "avx" in features and "avx512f" not in features:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=".strip()
    del features
