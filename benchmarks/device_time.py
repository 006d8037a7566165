"""Measures how long a device is busy with a compiled program, without the cost of launching it.

The time is the union of the intervals of the events that `jax.profiler` records on the device's
streams, divided by the number of calls. A loop of many iterations in one program could be timed
instead, but it is not the program that a user runs: XLA must be kept from moving constant work out
of the loop, the loop uses more memory than one call, and every program would be compiled twice,
which for large kernels takes longer than all timing. The time of calls that are queued one after
another, launches included, is measured as well. It is an upper bound, and is used if the profiler
has no events.
"""

import collections
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

# The beginning of the names of those lines of a device's plane that hold the kernels that ran. The
# other lines hold summaries of these.
_STREAM = "Stream"


class DeviceTime(NamedTuple):
    """The time of one program.

    Attributes:
        milliseconds: The time of a call on the device.
        queued_milliseconds: The mean time of a call when many are queued without waiting.
        method: "profiler", or "queued" if `milliseconds` is a copy of `queued_milliseconds`.
    """

    milliseconds: float
    queued_milliseconds: float
    method: str


def device_time(
    function: Callable[..., Any], *arguments: Any, seconds: float = 0.3, most: int = 50
) -> DeviceTime:
    """Time a compiled function after two calls; the timing takes about three times `seconds`."""
    jax.block_until_ready(function(*arguments))
    once = _queued(function, arguments, 1)
    calls = max(2, min(most, int(seconds / max(once, 1e-6))))
    queued = statistics.median(_queued(function, arguments, calls) for _ in range(3))
    busy = _profiled(function, arguments, calls)
    if busy is None:
        return DeviceTime(1e3 * queued, 1e3 * queued, "queued")
    return DeviceTime(1e3 * busy, 1e3 * queued, "profiler")


def _queued(function: Callable[..., Any], arguments: tuple, calls: int) -> float:
    begin = time.perf_counter()
    result = None
    for _ in range(calls):
        result = function(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - begin) / calls


def kernels(function: Callable[..., Any], *arguments: Any, calls: int = 10) -> dict[str, float]:
    """Return the microseconds per call that each kernel takes, the longest first.

    The dictionary is empty if the profiler has no events.
    """
    jax.block_until_ready(function(*arguments))
    total: collections.defaultdict[str, float] = collections.defaultdict(float)
    for name, begin, end in _traced(function, arguments, calls):
        total[name] += end - begin
    longest = sorted(total.items(), key=lambda item: -item[1])
    return {name: nanoseconds / calls / 1e3 for name, nanoseconds in longest}


def _profiled(function: Callable[..., Any], arguments: tuple, calls: int) -> float | None:
    """Return the seconds of a call on the device, or None if there are no events, as on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    nanoseconds = busy((begin, end) for _, begin, end in _traced(function, arguments, calls))
    return nanoseconds / calls / 1e9 if nanoseconds else None


def _traced(
    function: Callable[..., Any], arguments: tuple, calls: int
) -> list[tuple[str, float, float]]:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            _queued(function, arguments, calls)
        files = list(Path(folder).rglob("*.xplane.pb"))
        return _events(jax.profiler.ProfileData.from_file(str(files[0]))) if files else []


def _events(data: Any) -> list[tuple[str, float, float]]:
    """Return the name, begin and end (in nanoseconds) of every event on the first device."""
    planes = sorted(
        (plane for plane in data.planes if plane.name.startswith("/device:GPU")),
        key=lambda plane: plane.name,
    )
    return [
        (event.name, event.start_ns, event.start_ns + event.duration_ns)
        for plane in planes[:1]
        for line in plane.lines
        if line.name.startswith(_STREAM)
        for event in line.events
    ]


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
