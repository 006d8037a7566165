"""The 2D op on NVIDIA GPUs: the gates between all cells by a Pallas kernel (README.md, section 7).

It supports gates that are single numbers, JT = JK = JQ = JV = JO = 1, as in the published models.
`pairs.py` contains the kernels, and is imported when they first run, because Pallas takes long to
import.
"""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.device import Home, gpu_capability
from plstm_seq.ops.grid.inputs import GATES, GridImplementation, Inputs, States

MIN_ROWS = 16
"""Columns are padded to this number of rows, the smallest that a product of matrices supports."""
MAX_CELLS, MAX_ROWS = 256, 16
"""Memory grows with the square of the padded number of cells; only 12 x 12 was measured."""
CAPABILITY = 8.0


@dataclass(frozen=True)
class Triton:
    """The kernel; `implementation_of` turns it into an implementation.

    Attributes:
        interpret: whether to run interpreted on the CPU, for tests.
    """

    interpret: bool = False

    def run(
        self,
        inputs: Inputs,
        initial: States,
        *,
        dtype: jnp.dtype,
        leaving: bool,
        home: Home | None = None,
    ) -> tuple[Array, States]:
        """Computes one orientation."""
        del initial, leaving
        axis = len(inputs.batch)
        oriented = {name: getattr(inputs, name) for name in GATES}
        oriented = jax.tree.map(lambda gate: jnp.expand_dims(gate, axis), oriented)
        output = self.summed(inputs._replace(**oriented), (0,), dtype=dtype, half=False, home=home)
        return output, States(None, None)

    def summed(
        self,
        inputs: Inputs,
        orientations: tuple[int, ...],
        *,
        dtype: jnp.dtype,
        half: bool,
        home: Home | None = None,
    ) -> Array:
        """Returns the sum over orientations, with the direct term.

        Args:
            inputs: the inputs; gates other than the direct term are [*B, O, X, Y, ...].
            orientations: the orientations of the axis O.
            dtype: the type of accumulation, and of the result.
            half: whether query, key and value have 16 bits. If so, products, also those of gates,
                may be computed in TF32; otherwise they keep all 32 bits.
            home: the platforms that the kernel is compiled for; None: all.
        """
        run = functools.partial(_summed, orientations, dtype, not half, self.interpret, home)
        return jax.checkpoint(run)(inputs)

    def check(
        self,
        inputs: Inputs,
        initial: States | None,
        *,
        dtype: jnp.dtype,
        leaving: bool = False,
        **options: Any,
    ) -> None:
        """Declines float64, states, large grids, and gates that are not single numbers.

        Raises:
            NotImplementedError: the call is declined; the message gives the reason.
        """
        del options
        if leaving or jax.tree.leaves(initial):
            raise NotImplementedError("states that enter or leave the grid are not supported")
        X, Y = inputs.grid
        if not inputs.value.size:
            raise NotImplementedError("the batch or the grid is empty")
        if not self.interpret:
            _check_triton()
            if dtype == jnp.float64:
                raise NotImplementedError("float64 is not supported")
        sizes = {*inputs.mark_left.shape[-3:], *inputs.source_right.shape[-2:]}
        if sizes != {1}:
            raise NotImplementedError("supports JT = JK = JQ = JV = JO = 1 alone")
        if X * max(Y, MIN_ROWS) > MAX_CELLS or Y > MAX_ROWS:
            limits = f"{MAX_CELLS // MIN_ROWS} columns of {MAX_ROWS} rows"
            raise NotImplementedError(f"supports {limits}: {X} x {Y}")


def implementation_of(kernel: Triton) -> GridImplementation:
    """Returns the implementation of the op that runs the kernel."""
    if kernel.interpret:
        return GridImplementation("triton", kernel.run, kernel.check, summed=kernel.summed)
    return GridImplementation(
        "triton",
        kernel.run,
        kernel.check,
        check_device=check_device,
        platforms=("cuda",),
        summed=kernel.summed,
    )


def check_device(device: Any) -> None:
    """Declines devices that are not NVIDIA GPUs, and old NVIDIA GPUs.

    Raises:
        NotImplementedError: the device is declined; the message gives the reason.
    """
    capability = gpu_capability(device)
    if not capability.replace(".", "").isdigit() or float(capability) < CAPABILITY:
        raise NotImplementedError(f"needs compute capability {CAPABILITY}, not {capability}")


def _check_triton() -> None:
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError as error:
        raise NotImplementedError("needs Pallas on Triton, which this jax does not have") from error


def _summed(
    orientations: tuple[int, ...],
    dtype: jnp.dtype,
    precise: bool,
    interpret: bool,
    home: Home | None,
    inputs: Inputs,
) -> Array:
    from plstm_seq.ops.grid.triton.pairs import pairs
    from plstm_seq.ops.grid.triton.walk import Grid

    (X, Y), axis = inputs.grid, len(inputs.batch)
    grid = Grid(X, Y, orientations, MIN_ROWS)
    like = inputs.transition_rl[..., 0, 0]
    gates = [x if x is None else x.reshape(like.shape) for x in inputs[3:-1]]
    gates.append(None if inputs.direct is None else _once(inputs.direct, like.shape, axis))
    stacked = jnp.stack([jnp.zeros_like(like) if x is None else x for x in gates], axis + 1)
    stacked = jnp.pad(stacked.astype(dtype), [(0, 0)] * (axis + 3) + [(0, grid.rows - Y)])
    exact = jax.lax.Precision.HIGHEST if interpret else jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    of_kernel = exact if precise else jax.lax.Precision.DEFAULT
    found: Any = pairs(stacked, grid, of_kernel, interpret, home)
    query, key, value = (x.reshape(*inputs.batch, X * Y, -1).astype(dtype) for x in inputs[:3])
    product = functools.partial(jnp.einsum, precision="highest" if precise else "default")
    matrix = product("...ck,...lk->...cl", key, query)
    matrix *= found
    return product("...cl,...cv->...lv", matrix, value).reshape(inputs.value.shape)


def _once(direct: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Returns the direct term as a gate of the first orientation alone."""
    first = direct.reshape(*shape[:axis], 1, *shape[axis + 1 :])
    return jnp.pad(first, [(0, n - 1 if i == axis else 0) for i, n in enumerate(shape)])
