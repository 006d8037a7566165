"""The 2D op on NVIDIA GPUs: the gates between all cells by a Pallas kernel (README.md, section 7).

For numbers as gates, JT = JK = JQ = JV = JO = 1, as the published models have them. `pairs.py`
holds the kernels, and is imported when they first run: Pallas takes long to import.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.device import gpu_capability
from plstm_seq.ops.grid.inputs import GATES, Inputs, States
from plstm_seq.ops.grid.tile import gated
from plstm_seq.ops.products import direct_term

MAX_CELLS, MAX_ROWS = 256, 16
"""Memory grows with the square of the cells, a kernel with the rows; measured at 12 x 12 alone."""
CAPABILITY = 8.0


@dataclass(frozen=True)
class PallasGPU:
    """An `api.Implementation`.

    Attributes:
        interpret: whether to run on the CPU, interpreted, for tests.
    """

    interpret: bool = False

    def __call__(
        self,
        inputs: Inputs,
        initial: States,
        scale: float | Array,
        *,
        dtype: jnp.dtype,
        leaving: bool,
    ) -> tuple[Array, States]:
        """One orientation; declines states that enter or leave."""
        if leaving or initial != (None, None):
            raise NotImplementedError("states that enter or leave the grid are not supported")
        x = inputs.astype(dtype)
        axis = len(x.batch)
        oriented = {name: getattr(x, name) for name in GATES}
        oriented = jax.tree.map(lambda gate: jnp.expand_dims(gate, axis), oriented)
        output = self.summed(x._replace(**oriented), (0,), jax.lax.Precision.HIGHEST)
        if x.direct is not None:
            output += direct_term(x.query, x.key, x.value, x.direct)
        return scale * output, States(None, None)

    def summed(
        self, inputs: Inputs, orientations: Sequence[int], precision: jax.lax.Precision
    ) -> Array:
        """The sum over orientations, without direct term and scale.

        Args:
            inputs: in the type of accumulation; gates [*B, O, X, Y, ...].
            orientations: of the axis O.
            precision: of the products of queries, keys and values.

        Raises:
            NotImplementedError: the device, the size of the grid or of a gate.
        """
        self._check(inputs)
        run = functools.partial(_summed, tuple(orientations), self.interpret, precision)
        return jax.checkpoint(run)(inputs._replace(direct=None))

    def _check(self, inputs: Inputs) -> None:
        X, Y = inputs.grid
        if not inputs.value.size:
            raise NotImplementedError("the batch or the grid is empty")
        if not self.interpret:
            _check_device()
        sizes = {*inputs.mark_left.shape[-3:], *inputs.source_right.shape[-2:]}
        if sizes != {1}:
            raise NotImplementedError("supports JT = JK = JQ = JV = JO = 1 alone")
        if X * Y > MAX_CELLS or Y > MAX_ROWS:
            raise NotImplementedError(f"supports {MAX_CELLS} cells in {MAX_ROWS} rows: {X} x {Y}")


def _check_device() -> None:
    capability = gpu_capability()
    if not capability.replace(".", "").isdigit() or float(capability) < CAPABILITY:
        raise NotImplementedError(f"needs compute capability {CAPABILITY}, not {capability}")


def _summed(
    orientations: tuple[int, ...], interpret: bool, precision: jax.lax.Precision, inputs: Inputs
) -> Array:
    from plstm_seq.ops.grid.pallas_gpu.pairs import pairs

    X, Y = inputs.grid
    like = inputs.transition_rl
    gates = [jnp.zeros_like(like) if x is None else x for x in inputs[3:-1]]
    gates = jnp.stack([x.reshape(like.shape[:-2]) for x in gates], axis=-3)
    each: Any = pairs(gates, orientations, interpret)
    function: Any = functools.partial(gated, precision=precision)
    for _ in inputs.batch:
        function = jax.vmap(function)
    vectors = (x.reshape(*inputs.batch, X * Y, *x.shape[-2:]) for x in inputs[:3])
    return function(*vectors, each.sum(-3)).reshape(inputs.value.shape)
