"""Writes which combination of types, sizes and devices each implementation of the 1D op runs.

python tests/support/support_table.py docs/support.md

Nothing is computed: a kernel is asked what it declines, about the arguments and about the machine,
as `implementation_of` asks it; jax's version and device are made up for the latter.
`tests/ops/test_plstm_1d_support_table.py` holds the committed table against what this writes.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax

from plstm_seq.ops.sequence import core_form, mosaic_gpu, mosaic_gpu_small, mosaic_tpu
from plstm_seq.ops.sequence.inputs import Inputs

GATES = range(1, 9)
SUBSTEPS = range(1, 5)
DTYPES = ("bfloat16", "float32", "float64")
DKS, DVS = (1, 64, 256), (5, 256)
# What the kernels are for.
PROMISED = ("bfloat16", "float32")
VERSIONS = ("0.10.2", "0.11.2", "0.12.0")
DEVICES = {
    "CPU": {"platform": "cpu"},
    "NVIDIA, compute capability 8.0": {"platform": "gpu", "compute_capability": "8.0"},
    "NVIDIA, compute capability 9.0 (Hopper)": {"platform": "gpu", "compute_capability": "9.0"},
    "NVIDIA, compute capability 10.0": {"platform": "gpu", "compute_capability": "10.0"},
    "TPU v5e": {"platform": "tpu", "device_kind": "TPU v5 lite"},
    "TPU v6e": {"platform": "tpu", "device_kind": "TPU v6 lite"},
    "another TPU": {"platform": "tpu", "device_kind": "TPU v4"},
}
HEADER = """# Which combination of `plstm_1d` runs where

Written by `make support-table`, which asks every implementation; a test holds this page against
what they answer. `recurrent` and `chunkwise` are XLA: they run everything everywhere. The kernels
decline what stands here with the reason, and `plstm_1d` goes on to the next implementation, unless
one was named. Whether they compute the right thing is for the conformance tests to say.

NaN and infinity come only to what depends on them with `recurrent` and `chunkwise`. The kernels
multiply with the zeros of masks, too, so that they may come to every step of a chunk, and with the
kernel of `plstm_2d` to every cell of a grid.

To keep them back, a kernel would look for them first and leave the work to `chunkwise` where it
finds any. That costs `mosaic_gpu_small` 18 to 46 % of a forward and backward pass and `mosaic_gpu`
up to 10 % (a bound of 3 % was set beforehand; one H200, jax 0.11.2, the first nine cases of
`benchmarks/not_finite.py` at commit 4a2eb36, twice), so they do not.

## Machines

Of the implementations that are kernels; forward and backward pass alike. `mosaic_tpu` was compiled
for these TPUs and has never run on one.

"""
SIZES = f"""
## Sizes and types

Asked for JT, JV and JO in 1..8, JK and JQ in 1..4, DK in {DKS}, DV in {DVS}, with and
without a direct term; any T and any *B. bfloat16 and float32 are promised: there a decline is a
defect, but for `mosaic_gpu_small`, which is for small states alone.

"""
PADDING = """
## What a size costs

Kernels but `mosaic_gpu_small` have sizes of their own: gates are padded, DK and DV are padded and
cut into tiles, each of which is one more entry of the batch with the gates repeated. For all
kernels a step is JQ + JK - 1 sub-steps.
J = JT = JV = JO; "DV a tile": at DV = 256.

"""


@dataclass(frozen=True)
class Asked:
    """A kernel, and the part of its check that is about the arguments alone."""

    kernel: Any
    check: Callable[[Inputs], None]
    every_size: bool = True  # promised, by padding and tiles


KERNELS = {
    "mosaic_gpu_small": Asked(
        mosaic_gpu_small.MosaicGPUSmall(), mosaic_gpu_small.check_arguments, every_size=False
    ),
    "mosaic_gpu": Asked(mosaic_gpu.MosaicGPU(), mosaic_gpu.check_arguments),
    "mosaic_tpu": Asked(mosaic_tpu.MosaicTPU(), mosaic_tpu.MosaicTPU().check),
}


@dataclass(frozen=True)
class Call:
    """The sizes and the type of one call."""

    dtype: str
    JT: int
    JV: int
    JO: int
    JK: int = 1
    JQ: int = 1
    DK: int = 64
    DV: int = 16
    T: int = 100
    direct: bool = True

    def inputs(self) -> Inputs:
        """Shapes and types."""
        T, DK, DV, JT, JK, JV, JO, JQ = (
            getattr(self, n) for n in ("T", "DK", "DV", "JT", "JK", "JV", "JO", "JQ")
        )
        shapes = Inputs(
            query=(T, DK, JQ),
            key=(T, DK, JK),
            value=(T, DV, JV),
            source=(T, JT, JK, JV),
            transition=(T, JT, JT),
            mark=(T, JO, JQ, JT),
            direct=(T, JO, JQ, JK, JV) if self.direct else None,
        )
        return Inputs(*(None if s is None else struct(s, self.dtype) for s in shapes))

    def core(self) -> "Call":
        """As `core_form.expand_time` leaves it, but for T, which no kernel looks at."""
        return Call(
            self.dtype,
            self.JT,
            self.JV,
            self.JO,
            DK=self.DK,
            DV=self.DV,
            direct=self.direct and self.JQ == self.JK == 1,
        )


@functools.cache
def struct(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def calls() -> Iterator[Call]:
    """The whole product; the direct term in turn there and not."""
    gates = itertools.product(GATES, GATES, GATES)
    rest = list(itertools.product(SUBSTEPS, SUBSTEPS, DKS, DVS))
    for dtype, (JT, JV, JO) in itertools.product(DTYPES, gates):
        for JK, JQ, DK, DV in rest:
            yield Call(dtype, JT, JV, JO, JK, JQ, DK, DV, direct=(JT + JK + DV) % 2 == 0)


def reason(asked: Asked, call: Call) -> str | None:
    """Why a kernel declines a call, as `kernel.implementation_of` asks; None: it runs."""
    try:
        asked.check(call.inputs())
        cut(asked, call.core())
    except NotImplementedError as error:
        return str(error)
    return None


@functools.cache
def cut(asked: Asked, core: Call) -> core_form.Cut:
    """How the kernel's limits cut a call; also asks for the chunk size of a tile."""
    limits = dataclasses.asdict(asked.kernel.limits(core.inputs()))
    c = core_form.cut_tiles(core.inputs(), **limits)
    tile = dataclasses.replace(core, DK=c.DK, DV=c.DV, JT=c.JT, JV=c.JV, JO=c.JO)
    asked.kernel.chunk_size(tile.inputs(), None)
    return c


def machines() -> list[str]:
    """A row a device, a column a kernel."""
    lines = _row("device", *KERNELS) + _row(*["---"] * (1 + len(KERNELS)))
    for device, about in DEVICES.items():
        answers = [_versions(asked, about) for asked in KERNELS.values()]
        lines += _row(device, *answers)
    return lines


def _versions(asked: Asked, about: dict[str, str]) -> str:
    """Runs, or why not; by version of jax where it depends on that."""
    answers = {version: _on_machine(asked, about, version) for version in VERSIONS}
    reasons = {r.replace(v, "this version") if r else r for v, r in answers.items()}
    if len(reasons) == 1:
        return reasons.pop() or "runs"
    runs = [version for version, why in answers.items() if why is None]
    if not runs:
        return answers[VERSIONS[-1]] or ""
    not_with = [version for version in VERSIONS if version not in runs]
    return f"runs with jax {', '.join(runs)}, not with {', '.join(not_with)}"


def _on_machine(asked: Asked, about: dict[str, str], version: str) -> str | None:
    device = SimpleNamespace(**{"device_kind": ""} | about)
    with (
        mock.patch.object(jax, "__version__", version),
        mock.patch.object(jax, "__version_info__", tuple(map(int, version.split(".")))),
    ):
        try:
            asked.kernel.check(Call("float32", 4, 4, 4, DK=2, DV=2).inputs())
            asked.kernel.check_device(device)
        except NotImplementedError as error:
            return str(error).replace(repr(device), about["platform"])
    return None


def sizes() -> tuple[list[str], list[str]]:
    """A row a kernel and type; and the defects: promised calls that are declined."""
    asked_for: dict[tuple[str, str], int] = {}
    declined: dict[tuple[str, str], dict[str, Call]] = {}
    count: dict[tuple[str, str], int] = {}
    for call in calls():
        for name, asked in KERNELS.items():
            key = (name, call.dtype)
            asked_for[key] = asked_for.get(key, 0) + 1
            why = reason(asked, call)
            if why is not None:
                count[key] = count.get(key, 0) + 1
                declined.setdefault(key, {}).setdefault(why, call)
    lines = _row("implementation", "type", "run", "declined", "reasons")
    lines += _row(*["---"] * 5)
    defects = []
    for key, total in asked_for.items():
        reasons = declined.get(key, {})
        no = count.get(key, 0)
        lines += _row(*key, f"{total - no:,}", f"{no:,}", "; ".join(list(reasons)[:4]))
        if key[1] in PROMISED and KERNELS[key[0]].every_size:
            defects += [f"{key[0]}: {call}: {why}" for why, call in reasons.items()]
    return lines, defects


def padding() -> list[str]:
    """A row a kernel, type and J."""
    columns = ("implementation", "type", "J", "gates padded to JT, JV, JO")
    lines = _row(*columns, "DK = 256 in tiles of", "DV a tile")
    lines += _row(*["---"] * 6)
    padded = [(name, asked) for name, asked in KERNELS.items() if asked.every_size]
    for (name, asked), dtype, J in itertools.product(padded, PROMISED, GATES):
        c = cut(asked, Call(dtype, J, J, J, DK=256, DV=256))
        lines += _row(name, dtype, str(J), f"{c.JT}, {c.JV}, {c.JO}", str(c.DK), str(c.DV))
    return lines


def _row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def document() -> tuple[str, list[str]]:
    """The page, and the defects."""
    lines, defects = sizes()
    text = HEADER + "\n".join(machines()) + "\n" + SIZES + "\n".join(lines) + "\n"
    text += PADDING + "\n".join(padding()) + "\n"
    text += "\n## Open defects\n\n"
    text += (
        "\n".join(f"- {defect}" for defect in defects)
        or "None: nothing that is promised is declined."
    )
    return text + "\n", defects


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document()[0], encoding="utf-8")
