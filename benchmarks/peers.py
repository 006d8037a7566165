"""Times kernels of other libraries at the shape of `gpu_1d.py`'s targets: 8 x 8 heads, T = 2048.

python benchmarks/peers.py               prints one JSON line per peer
python benchmarks/peers.py --compile     compiles all of them at once into Triton's cache

The head size is 64. The peers need PyTorch, Triton and the packages `fla-core`,
`flash-linear-attention` and `mlstm_kernels`. A peer that is missing or fails gets a row with the
reason. The peers run in a process of their own (`torch_peers`), which ends before jax starts its
device: otherwise the two frameworks would share its memory, and a crash of one would end both. The
time is defined as in `device_time.py`, as the union of the device's events, here from
`torch.profiler`; the median of `triton.testing.do_bench` is recorded as well. jax's own attention
(`attention`) runs in the process of `gpu_1d.py`.
"""

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from device_time import busy

B, H, T, D = 8, 8, 2048, 64
_MARK = "PEER "
_SECONDS = 200
_COMPILING_SECONDS = 300


def torch_peers(names: list[str] | None = None) -> list[dict[str, Any]]:
    """Compile the peers in PyTorch all at once, and return their rows from a separate process."""
    wanted = [name for name in PEERS if names is None or name in names]
    compile_all(wanted)
    command = [sys.executable, str(Path(__file__)), *wanted]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        output, end = done.stdout, f"its process ended with {done.returncode}"
        end += ": " + " ".join(done.stderr.split()[-20:])
    except subprocess.TimeoutExpired as expired:
        text = expired.stdout or b""
        output = text.decode() if isinstance(text, bytes) else text
        end = f"not reached within {_SECONDS} s"
    lines = (line[len(_MARK) :] for line in output.splitlines() if line.startswith(_MARK))
    rows = {row["implementation"]: row for row in map(json.loads, lines)}
    return [rows.get(name, {"implementation": name, "reason": end[:200]}) for name in wanted]


def compile_all(names: list[str]) -> None:
    """Run each peer once in a process of its own, so that its kernels are in Triton's cache."""
    command = [sys.executable, str(Path(__file__)), "--compile"]
    nowhere = subprocess.DEVNULL
    processes = [
        subprocess.Popen([*command, name], stdout=nowhere, stderr=nowhere) for name in names
    ]
    end = time.monotonic() + _COMPILING_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def attention(implementation: Literal["xla", "cudnn"]) -> tuple[Callable, Callable, tuple]:
    """Return forward, forward+backward and arguments of jax's causal attention in bfloat16."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 4)
    arguments = tuple(jax.random.normal(key, (B, T, H, D), jnp.bfloat16) for key in keys)

    def forward(q: Any, k: Any, v: Any, _: Any) -> Any:
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)

    def backward(q: Any, k: Any, v: Any, cotangent: Any) -> Any:
        output, vjp = jax.vjp(lambda q, k, v: forward(q, k, v, None), q, k, v)
        return output, vjp(cotangent)

    return forward, backward, arguments


def _gla(torch: Any) -> tuple[Callable, list]:
    """Make gated linear attention, which has a diagonal gate: one per step and key feature."""
    chunk_gla = importlib.import_module("fla.ops.gla").chunk_gla

    q, k, v, g = (_normal(torch, B, T, H, D) for _ in range(4))
    g = torch.nn.functional.logsigmoid(g)
    return lambda *x: chunk_gla(*x)[0], [q, k, v, g]


def _scalar(torch: Any) -> tuple[Callable, list]:
    """Make linear attention with one scalar gate per step and head."""
    chunk_simple_gla = importlib.import_module("fla.ops.simple_gla").chunk_simple_gla

    q, k, v = (_normal(torch, B, T, H, D) for _ in range(3))
    g = torch.nn.functional.logsigmoid(_normal(torch, B, T, H).float())
    return lambda *x: chunk_simple_gla(*x)[0], [q, k, v, g]


def _gated_delta_rule(torch: Any) -> tuple[Callable, list]:
    chunk_gated_delta_rule = importlib.import_module(
        "fla.ops.gated_delta_rule"
    ).chunk_gated_delta_rule

    return lambda *x: chunk_gated_delta_rule(*x)[0], _delta_arguments(torch, 1)


def _gated_delta_product(steps: int) -> Callable[[Any], tuple[Callable, list]]:
    """Return a maker of the gated delta product with `steps` reflections per time step.

    It is the peer that can track states.
    """

    def make(torch: Any) -> tuple[Callable, list]:
        chunk_gated_delta_product = importlib.import_module(
            "fla.ops.gated_delta_product"
        ).chunk_gated_delta_product

        def run(*x: Any) -> Any:
            return chunk_gated_delta_product(*x, num_householder=steps)[0]

        return run, _delta_arguments(torch, steps)

    return make


def _delta_arguments(torch: Any, steps: int) -> list:
    """Draw q, k, v, g and beta, with k, v and beta for `steps` updates per time step."""
    functional = torch.nn.functional
    q = _normal(torch, B, T, H, D)
    k, v = (_normal(torch, B, T * steps, H, D) for _ in range(2))
    k = functional.normalize(k.float(), p=2, dim=-1).to(torch.bfloat16)
    g = functional.logsigmoid(_normal(torch, B, T, H).float())
    return [q, k, v, g, torch.sigmoid(_normal(torch, B, T * steps, H))]


def _mlstm(torch: Any) -> tuple[Callable, list]:
    """Make the mLSTM's chunkwise kernels with exponential gates."""
    get_mlstm_kernel = importlib.import_module("mlstm_kernels.torch").get_mlstm_kernel

    kernel = get_mlstm_kernel("chunkwise--triton_xl_chunk")
    q, k, v = (_normal(torch, B, H, T, D) for _ in range(3))
    i, f = (_normal(torch, B, H, T).float() for _ in range(2))

    def run(*x: Any) -> Any:
        return kernel(*x, chunk_size=128, autocast_kernel_dtype=torch.bfloat16)

    return run, [q, k, v, i, f + 3]


PEERS: dict[str, Callable[[Any], tuple[Callable, list]]] = {
    "gated delta product, 2": _gated_delta_product(2),
    "gated delta product, 4": _gated_delta_product(4),
    "GLA": _gla,
    "gated delta rule": _gated_delta_rule,
    "scalar gate (simple GLA)": _scalar,
    "mLSTM": _mlstm,
}


def _normal(torch: Any, *shape: int) -> Any:
    return torch.randn(*shape, dtype=torch.bfloat16, device="cuda")


def _rows(names: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        row: dict[str, Any] = {"implementation": name, "dtype": "bfloat16"}
        try:
            torch = importlib.import_module("torch")
            torch.manual_seed(0)
            function, arguments = PEERS[name](torch)
            row |= _measure(torch, "forward", lambda f=function, a=arguments: f(*a))
            row |= _backward(torch, function, arguments)
        except Exception as error:  # a peer that fails gets a row, whatever error it raises
            row["reason"] = _words(error)
        yield row


def _compile(name: str) -> None:
    torch = importlib.import_module("torch")
    function, arguments = PEERS[name](torch)
    function(*[x.detach().requires_grad_() for x in arguments]).sum().backward()


def _backward(torch: Any, function: Callable, arguments: list) -> dict[str, Any]:
    """Time forward and all gradients, or return the reason if the peer refuses the gradients."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    try:
        cotangent = torch.randn_like(function(*arguments))

        def both() -> Any:
            return torch.autograd.grad(function(*leaves), leaves, cotangent)

        return _measure(torch, "forward_backward", both)
    except Exception as error:
        return {"reason": "backward: " + _words(error)}


def _measure(torch: Any, name: str, call: Callable[[], Any]) -> dict[str, Any]:
    do_bench = importlib.import_module("triton.testing").do_bench

    if name == "forward" and not bool(call().isfinite().all()):
        raise ArithmeticError("the output is not finite")
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    results = call()
    torch.cuda.synchronize()
    results = results if isinstance(results, tuple) else (results,)
    returned = sum(x.numel() * x.element_size() for x in results if x is not None)
    peak = torch.cuda.max_memory_allocated() - before - returned
    queued = statistics.median(do_bench(call, warmup=25, rep=200, return_mode="all"))
    measured = _profiled(torch, call, max(3, min(50, int(200 / queued))))
    return {
        f"{name}_ms": queued if measured is None else measured,
        f"{name}_queued_ms": queued,
        f"{name}_temporary_mib": peak / 2**20,
        "method": "queued" if measured is None else "profiler",
    }


def _profiled(torch: Any, call: Callable[[], Any], calls: int) -> float | None:
    """Return the milliseconds of a call on the device, or None if the profiler has no events."""
    cuda = importlib.import_module("torch.autograd").DeviceType.CUDA
    profiler = importlib.import_module("torch.profiler")
    try:
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as recorded:
            for _ in range(calls):
                call()
            torch.cuda.synchronize()
        events = [e for e in recorded.events() if e.device_type == cuda]
    except RuntimeError:
        return None
    microseconds = busy((e.time_range.start, e.time_range.end) for e in events)
    return microseconds / calls / 1e3 if microseconds else None


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def main(arguments: list[str]) -> None:
    """Print the rows of the peers named, or of all; with `--compile`, only compile the kernels."""
    compiling = "--compile" in arguments
    names = [name for name in arguments if name != "--compile"]
    if not compiling:
        for row in _rows(names or list(PEERS)):
            print(_MARK + json.dumps(row), flush=True)
    elif len(names) == 1:
        _compile(names[0])
    else:
        compile_all(names or list(PEERS))


if __name__ == "__main__":
    main(sys.argv[1:])
