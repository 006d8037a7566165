"""The devices of a training: the memory they have, and batches or members split over several."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from plstm_seq.training.leaves import is_key

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


Tree = TypeVar("Tree")

DATA, MEMBER = "data", "member"


def data_mesh(size: int | None = None) -> Mesh:
    """Make a mesh with one axis, `data`, over the devices of all processes.

    Args:
        size: how many devices it has; None: all.

    Raises:
        ValueError: there are fewer devices, or there are several processes and `size` leaves
            out some of their devices.

    Example:
        >>> from plstm_seq.training import data_mesh
        >>> mesh = data_mesh(1)
        >>> mesh.axis_names, mesh.size
        (('data',), 1)
    """
    devices = jax.devices()
    size = len(devices) if size is None else size
    if not 1 <= size <= len(devices):
        raise ValueError(f"mesh data={size}: there are {len(devices)} devices")
    if jax.process_count() > 1 and size != len(devices):
        raise ValueError(
            f"mesh data={size}: {jax.process_count()} processes have {len(devices)} devices, and "
            "all have to take part"
        )
    return Mesh(np.array(devices[:size]), (DATA,))


def check_mesh(mesh: Mesh, batch_size: int) -> None:
    """Refuses a mesh that a batch cannot be split over.

    Raises:
        ValueError: it has no axis `data`, or one that does not divide the batch size.
    """
    if mesh.axis_names != (DATA,):
        raise ValueError(f"mesh has the axes {mesh.axis_names}: ({DATA!r},) is expected")
    if batch_size % mesh.size:
        raise ValueError(
            f"batch_size {batch_size} cannot be split over {mesh.size} devices: take a multiple"
        )


def over_data(mesh: Mesh) -> NamedSharding:
    """How a batch [B, ...] lies on the devices."""
    return NamedSharding(mesh, P(DATA))


def whole(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, P())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """The whole tree on every device; every process has to bring the same."""
    sharding = whole(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def spread(leaf: Array) -> Array:
        if is_key(leaf):
            data = spread(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        here = np.asarray(leaf)
        return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

    return jax.tree.map(spread, tree)


def anywhere(flag: bool) -> bool:
    """Whether the flag is up in any process: all have to stop at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def member_mesh(devices: Sequence[Device]) -> Mesh | None:
    """A mesh of the axis `member`; None for one device."""
    return Mesh(np.array(devices), (MEMBER,)) if len(devices) > 1 else None


def split_members(tree: Tree, mesh: Mesh | None) -> Tree:
    """Leaves [members, ...] split over the devices of a `member_mesh`."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P(MEMBER)))


def over_members(dispatch: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """A dispatch for many states: state, lengths and number of steps have an axis of members.

    A member whose number of steps is reached is left as it is while others go on: that is what
    `vmap` makes of a loop whose end differs. Devices do not wait for each other.
    """
    members = jax.vmap(dispatch)
    if mesh is None:
        return members
    split = P(MEMBER)
    return jax.shard_map(
        members,
        mesh=mesh,
        in_specs=(split, split, split),
        out_specs=split,
        # The loop's carry starts as zeros that are the same everywhere.
        check_vma=False,
    )
