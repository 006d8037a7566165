"""How much memory a device has for programs."""

import os
from pathlib import Path
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
        return int(_HOST_SHARE * min([whole, *control_group_limits()]))
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else int(_DEVICE_SHARE * limit)


def control_group_limits(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Bytes that a container or a cluster's job may take, by Linux's control groups.

    Args:
        membership: names the groups of this process, a line each.
        root: where the groups are folders; a limit holds for all groups below it.

    Returns:
        Every limit that is set, of version 2 and 1; none elsewhere than on Linux.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                found += _number(folder / name)
    return found


def _number(path: Path) -> list[int]:
    try:
        return [int(path.read_text(encoding="ascii"))]
    except (OSError, ValueError):  # no such file, or "max"
        return []
