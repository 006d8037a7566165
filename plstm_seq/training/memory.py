"""How much memory a device has for programs."""

import os
from typing import Any

Device = Any  # `jax.Device`, which type checkers take for a value

# Of a machine's memory: the rest is Python's, the compiler's and other people's.
_HOST_SHARE = 0.5
_DEVICE_SHARE = 0.95


def device_memory(device: Device) -> int | None:
    """Bytes that programs may take on a device; None where nothing is known."""
    if device.platform == "cpu":
        try:
            whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None
        return int(_HOST_SHARE * whole)
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else int(_DEVICE_SHARE * limit)
