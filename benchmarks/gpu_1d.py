"""Checks and times every implementation of the 1D op on a GPU over a grid of shapes, and its peers.

python benchmarks/gpu_1d.py                     the whole grid, into results/gpu_1d.json
python benchmarks/gpu_1d.py --only target GLA   cases, implementations or peers by name
python benchmarks/gpu_1d.py --quick             the shapes of the targets, and the peers
python benchmarks/gpu_1d.py --table             a Markdown table of an earlier run
python benchmarks/gpu_1d.py --cpu-smoke         tiny shapes on any device; says nothing about speed

The times are those on the device itself (`device_time.py` explains how and why). Two limits, a
large copy and a large matrix product, are measured in the same run. Before a program is timed, one
or two of its sequences and all gradients are compared with the recurrence in float64. A program
that differs or fails gets a row with the reason and without a time. New rows replace those of the
same key in the file if device and versions are the same.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import gpu_1d_table as table
import measure
import peers
from device_time import device_time

# The seconds after which no more programs are compiled; the rows that are left out say so.
BUDGET = 480
COMPILING_AT_ONCE = 8
VERSIONS = ("torch", "triton", "fla-core", "flash-linear-attention", "mlstm_kernels")
KEY = ("case", "implementation", "dtype")
QUICK = ("target", "diagonal", "sweep", "word 128", "peers")

Row = dict[str, Any]


def limits(small: bool) -> Iterator[Row]:
    """Measure the bytes per second of a large copy and the FLOP/s of a large matrix product.

    The copy is negated, so that a kernel makes it.
    """
    import jax
    import jax.numpy as jnp

    size, n = (2**20, 256) if small else (2**28, 8192)
    x = jax.random.normal(jax.random.key(0), (size,), jnp.float32)
    time_of = device_time(jax.jit(jnp.negative), x)
    yield _limit("copy", time_of, bytes=2 * x.nbytes)
    a, b = jax.random.normal(jax.random.key(1), (2, n, n), jnp.bfloat16)
    yield _limit("matrix product", device_time(jax.jit(jnp.matmul), a, b), flops=2 * n**3)


def _limit(name: str, measured: Any, **work: int) -> Row:
    row = {"case": "limits", "implementation": name, "dtype": "", **measured._asdict()}
    for quantity, amount in work.items():
        row[f"{quantity}_per_second"] = amount / measured.milliseconds * 1e3
    return row


class Programs:
    """The forward and forward+backward programs of one implementation, compiled in threads."""

    def __init__(self, pool: ThreadPoolExecutor, functions: list[Callable], arguments: tuple):
        """Trace the programs, and let the pool compile them, several at once."""
        import jax

        begin = time.perf_counter()
        self.error: Exception | None = None
        self.compiling: list[Future] = []
        try:
            for function in functions:
                lowered = jax.jit(function).lower(*arguments)
                self.compiling.append(pool.submit(lowered.compile))
        except Exception as error:  # an error of a kernel becomes a row and does not end the run
            self.error = error
        self.begin = begin

    def compiled(self) -> tuple[list[Any], float]:
        """Return the programs, and the seconds from tracing to the end of the last compilation."""
        if self.error is not None:
            raise self.error
        return [future.result() for future in self.compiling], time.perf_counter() - self.begin


def time_programs(programs: list[Any], arguments: tuple, seconds: float) -> Row:
    """Time both programs, and return the columns of their row."""
    row: Row = {}
    for name, program in zip(("forward", "forward_backward"), programs, strict=True):
        measured = device_time(program, *arguments, seconds=seconds)
        memory = program.memory_analysis()
        temporary = None if memory is None else memory.temp_size_in_bytes / 2**20
        row |= {
            f"{name}_ms": measured.milliseconds,
            f"{name}_queued_ms": measured.queued_milliseconds,
            f"{name}_temporary_mib": temporary,
            "method": measured.method,
        }
    return row


def run_case(
    case: Any, names: list[str], pool: ThreadPoolExecutor, seconds: float
) -> Iterator[Row]:
    """Check and time each implementation on one shape, and yield a row for each."""
    import gpu_1d_cases as grid
    import jax

    arguments = jax.block_until_ready(grid.arguments(case))
    programs = {}
    for name in names:
        functions = [f(implementation=name) for f in (grid.forward, grid.forward_backward)]
        programs[name] = Programs(pool, functions, arguments)
    expected = grid.reference(case, *arguments)
    # Compilation itself runs kernels on the device, so it must end before anything is timed.
    wait([future for each in programs.values() for future in each.compiling])
    for name in names:
        row = {"case": case.name, "implementation": name, "dtype": case.dtype, **case.sizes}
        try:
            compiled, row["compile_s"] = programs[name].compiled()
            row["errors"] = found = check(case, compiled, arguments, expected)
            if wrong := grid.failures(case, found):
                raise ArithmeticError("differs from the recurrence: " + ", ".join(wrong))
            row |= time_programs(compiled, arguments, seconds)
            row |= rates(case, row)
        except Exception as error:
            row["reason"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        yield row
        del programs[name]


def check(case: Any, compiled: list[Any], arguments: tuple, expected: Any) -> dict[str, float]:
    """Return the errors of both programs; the output's error is the larger of the two."""
    import gpu_1d_cases as grid

    found = grid.errors(case, compiled[1](*arguments), expected)
    output = grid.relative(grid.part(case, compiled[0](*arguments)), expected[0])
    return found | {"output": max(output, found["output"])}


def rates(case: Any, row: Row) -> Row:
    """Return bytes and FLOPs per second, and nanoseconds per token and head."""
    import gpu_1d_cases as grid

    result: Row = {}
    both = zip(
        ("forward", "forward_backward"), grid.traffic(case), grid.operations(case), strict=True
    )
    for name, size, flops in both:
        seconds = row[f"{name}_ms"] / 1e3
        result |= {
            f"{name}_bytes": size,
            f"{name}_flops": flops,
            f"{name}_bytes_per_second": size / seconds,
            f"{name}_flops_per_second": flops / seconds,
            f"{name}_ns_per_token": seconds * 1e9 / case.tokens,
        }
    return result


def run_attention(pool: ThreadPoolExecutor, seconds: float) -> Row:
    """Time jax's attention, with cuDNN if that works, else with XLA."""
    reasons = []
    kinds: tuple[Literal["cudnn", "xla"], ...] = ("cudnn", "xla")
    for kind in kinds:
        row: Row = {"case": "peers", "implementation": f"attention ({kind})", "dtype": "bfloat16"}
        try:
            *functions, arguments = peers.attention(kind)
            compiled, row["compile_s"] = Programs(pool, functions, arguments).compiled()
            row |= time_programs(compiled, arguments, seconds)
        except Exception as error:
            reasons.append(f"{kind}: {' '.join(str(error).split())}"[:150])
        else:
            return row
    return {"case": "peers", "implementation": "attention", "dtype": "", "reason": str(reasons)}


def merged(path: Path, rows: list[Row], about: dict[str, Any]) -> tuple[list[Row], dict[str, Any]]:
    """Join new rows with those of an earlier run on the same device with the same versions."""
    if not path.exists():
        return rows, about
    old = json.loads(path.read_text())
    here = measure.environment()
    same = all(old.get(key) == here[key] for key in ("device", "jax", "jaxlib", "python"))
    known = old.get("packages", {})
    packages = about["packages"]
    clash = any(known[key] != packages[key] for key in packages.keys() & known.keys())
    if not same or clash:
        return rows, about
    new = {tuple(row[key] for key in KEY) for row in rows}
    kept = [row for row in old["rows"] if tuple(row[key] for key in KEY) not in new]
    return kept + rows, about | {"packages": known | packages}


def packages() -> dict[str, str]:
    """Return the versions of the installed packages that the peers use."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def wanted(only: list[str] | None, *names: str) -> bool:
    """Return whether one of the names was asked for."""
    return only is None or any(name in only for name in names)


def run(options: argparse.Namespace) -> list[Row]:
    """Measure everything that was asked for; print each row and write all rows after it."""
    only, begin = options.only, time.perf_counter()
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        print(table.line(row), flush=True)
        if options.folder is not None:
            path = options.folder / f"{options.name}.json"
            everything, about = merged(path, rows, {"packages": packages()})
            measure.write(options.name, everything, options.folder, **about)

    if not options.cpu_smoke:
        names = None if wanted(only, "peers") else [n for n in peers.PEERS if n in only]
        # The peers run before jax takes the device's memory.
        for row in peers.torch_peers(names) if names != [] else []:
            note({"case": "peers", "dtype": "bfloat16", **row})
    import gpu_1d_cases as grid

    pool = ThreadPoolExecutor(options.jobs)
    if only is None or set(only) - {"peers", *peers.PEERS}:
        for row in limits(options.cpu_smoke):
            note(row)
    if not options.cpu_smoke and wanted(only, "peers", "attention"):
        note(run_attention(pool, options.seconds))
    for case in grid.tiny_cases() if options.cpu_smoke else grid.cases(tuple(options.lengths)):
        names = [
            n
            for n in case.implementations
            if options.implementations is None or n in options.implementations
        ]
        names = names if wanted(only, case.name) else [n for n in names if wanted(only, n)]
        if time.perf_counter() - begin > options.budget:
            for name in names:
                print(f"{case.name}, {name}, {case.dtype}: not run, {options.budget} s are over")
            continue
        for row in run_case(case, names, pool, options.seconds) if names else ():
            note(row)
    return rows


def main() -> None:
    """Measure, print and write JSON, or print the table of an earlier run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="cases, implementations, peers, or 'peers'")
    parser.add_argument(
        "--implementations", nargs="+", help="run only these implementations of the op"
    )
    parser.add_argument("--quick", action="store_true", help=f"--only {' '.join(QUICK)}")
    parser.add_argument("--lengths", type=int, nargs="*", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds of timing per program")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for the whole run")
    parser.add_argument(
        "--jobs", type=int, default=COMPILING_AT_ONCE, help="programs compiled at once"
    )
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny shapes, nothing written")
    parser.add_argument(
        "--folder", type=Path, help="where the JSON goes (default: benchmarks/results)"
    )
    parser.add_argument("--name", default="gpu_1d", help="name of the JSON file")
    parser.add_argument("--table", action="store_true", help="only print the JSON as Markdown")
    parser.add_argument(
        "--summary", action="store_true", help="only print the JSON's ratios as text"
    )
    options = parser.parse_args()
    if options.table or options.summary:
        path = (options.folder or measure.RESULTS) / f"{options.name}.json"
        document = json.loads(path.read_text())
        print(table.markdown(document) if options.table else table.summary(document["rows"]))
        return
    if options.folder is None and not options.cpu_smoke:
        options.folder = measure.RESULTS
    if options.quick:
        options.only = [*(options.only or ()), *QUICK]
    if options.cpu_smoke:
        os.environ["JAX_PLATFORMS"] = "cpu"
    rows = run(options)
    print(table.summary(rows))


if __name__ == "__main__":
    main()
