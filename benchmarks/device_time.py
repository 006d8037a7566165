"""How long the device itself is busy with a compiled program, without what launching it costs.

Taken from the events that `jax.profiler` records on the device's streams: the union of their
intervals, divided by the number of calls. Many iterations in one program would do as well, but such
a loop is another program than the one that a user runs: XLA must be kept from hoisting what does
not change, its memory is not that of one call, and every program would be compiled twice, which for
large kernels takes longer than all timing. Beside it stands the time of calls that are queued one
after another, launches included: an upper bound, and the fallback where the profiler has no events.
"""

import collections
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

# Lines of a device's plane that hold what ran; others repeat it, summed up.
_STREAM = "Stream"


class DeviceTime(NamedTuple):
    """One program.

    Attributes:
        milliseconds: a call's time on the device.
        queued_milliseconds: a call's share of many that are queued without waiting.
        method: "profiler", or "queued" where the first is the second.
    """

    milliseconds: float
    queued_milliseconds: float
    method: str


def device_time(
    function: Callable[..., Any], *arguments: Any, seconds: float = 0.3, most: int = 50
) -> DeviceTime:
    """Times a compiled function, after two calls, in about three times `seconds`."""
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
    """Microseconds of a call in each kernel, the longest first; empty where there are no events."""
    jax.block_until_ready(function(*arguments))
    total: collections.defaultdict[str, float] = collections.defaultdict(float)
    for name, begin, end in _traced(function, arguments, calls):
        total[name] += end - begin
    longest = sorted(total.items(), key=lambda item: -item[1])
    return {name: nanoseconds / calls / 1e3 for name, nanoseconds in longest}


def _profiled(function: Callable[..., Any], arguments: tuple, calls: int) -> float | None:
    """Seconds of a call; None where the device leaves no events (a CPU does)."""
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
    """Name, begin and end of what ran on the first device, in nanoseconds."""
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
    """The length of the union of intervals (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
