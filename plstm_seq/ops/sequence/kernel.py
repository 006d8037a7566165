"""The protocol of kernels, and the function that makes one an implementation of `plstm_1d`.

A kernel computes the *core form* alone (`core_form.py`): one flat batch axis, JK = JQ = 1, a whole
number of chunks, and sizes within the kernel's limits. Everything else is written here, once for
all kernels: the derivative rule, vmap, sharding, tiles, padding.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.device import Home
from plstm_seq.ops.leading_axes import once, over_leading_axes
from plstm_seq.ops.sequence import core_form
from plstm_seq.ops.sequence.inputs import VECTORS, Inputs


@dataclass(frozen=True)
class Limits:
    """The sizes of the core form that a kernel takes; larger ones are cut, others are padded.

    Attributes:
        DK_max: largest DK, a multiple of `DK_multiple`.
        columns_max: largest JT * DV after padding, at least JT * `DV_multiple`.
        DK_multiple: DK is padded to a multiple of this number.
        DV_multiple: DV is padded to a multiple of this number.
        gate_sizes: the sizes that each of JT, JV and JO may have, in ascending order; other sizes
            are padded to the next larger one. Empty: every size is allowed.
    """

    DK_max: int
    columns_max: int
    DK_multiple: int = 1
    DV_multiple: int = 1
    gate_sizes: tuple[int, ...] = ()


class Kernel(Protocol):
    """A hand-written program for the core form. It is hashable: a module-level object, or frozen.

    The letters are those of `plstm_seq.notation`; `N` is the flat batch, and `T` is a multiple of
    `chunk`. The core form has JK = JQ = 1 and keeps these axes. Query, key and value have the same
    type; a gate has that type or float32, like the gates of a layer that computes in bfloat16:

        query [N, T, DK, 1]           key [N, T, DK, 1]          value [N, T, DV, JV]
        source [N, T, JT, 1, JV]      transition [N, T, JT, JT]  mark [N, T, JO, 1, JT]
        direct [N, T, JO, 1, 1, JV] or None

    States are in the type of accumulation: float32 unless the inputs are float64. N, T and all
    sizes are at least 1.

    A kernel may run inside `jax.shard_map`, where jax checks over which mesh axes arrays vary. The
    `out_shape` of `pallas_call` then has to name these axes: use `varying.result`.
    """

    name: ClassVar[str]
    """The name by which a user selects the kernel; it is the lowering that the kernel uses."""

    def rank(self, inputs: Inputs, platform: str) -> int:
        """Returns how late to try it if nothing was measured: `choice.Implementation.rank`."""
        ...

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is compiled for ("cuda", "tpu"); empty: it runs everywhere."""
        ...

    def check_device(self, device: Any) -> None:
        """Declines a device that cannot run the kernel.

        Raises:
            NotImplementedError: the device cannot run the kernel.
        """
        ...

    def check(self, inputs: Inputs) -> None:
        """Declines calls that the kernel does not support, before anything is computed.

        Args:
            inputs: the shapes and types of the caller's inputs, [*B, T, ...], with the caller's JK,
                JQ, DK and DV, but the types that the kernel would get.

        Raises:
            NotImplementedError: the type, a size, or this version of jax is not supported.
        """
        ...

    def limits(self, core: Inputs) -> Limits:
        """Returns the sizes for a call.

        They may depend on the type, on JT, JV and JO, and on whether there is a direct term.

        Args:
            core: shapes and types [*B, T, ...] with JK = JQ = 1, before cutting and padding.
        """
        ...

    def chunk_size(self, core: Inputs, requested: int | None) -> int:
        """Returns the number of steps of a chunk; T is padded to a multiple of it.

        Args:
            core: shapes and types [*B, T, ...], cut and padded except for T.
            requested: a power of two, from the caller; None: the kernel chooses.

        Raises:
            NotImplementedError: the kernel has no chunks of the requested size.
        """
        ...

    def forward(
        self, core: Inputs, state: Array, *, scale: float, chunk: int, output_dtype: jnp.dtype
    ) -> tuple[Array, Array, Any]:
        """Computes the recurrence over all of T.

        Args:
            core: [N, T, ...].
            state: the state before the first step, [N, DK, DV, JT].
            scale: factor of the output.
            chunk: the result of `chunk_size`.
            output_dtype: type of the output: the type of the inputs, or of accumulation.

        Returns:
            The output [N, T, DV, JO], the last state [N, DK, DV, JT] in the type of accumulation,
            and what the backward pass needs in addition to the arguments: a pytree of arrays whose
            first axis is N, for instance the states at the starts of chunks.
        """
        ...

    def backward(
        self,
        core: Inputs,
        saved: Any,
        output_bar: Array,
        state_bar: Array,
        *,
        scale: float,
        chunk: int,
    ) -> tuple[Inputs, Array]:
        """Computes the cotangents of the inputs and of the initial state.

        Args:
            core: [N, T, ...], the same as in the forward pass.
            saved: the third result of the forward pass.
            output_bar: cotangent of the output, [N, T, DV, JO], in the type of the output.
            state_bar: cotangent of the last state, [N, DK, DV, JT], in the type of the state.
            scale: the same as in the forward pass.
            chunk: the same as in the forward pass.

        Returns:
            The cotangents of `core`, each in the type of its input, with None for a direct term of
            None; and the cotangent of the initial state, in the type of accumulation.
        """
        ...


def implementation_of(kernel: Kernel) -> Implementation:
    """Returns the implementation of the op that runs the kernel."""

    def plan(inputs: Inputs, state: Array, chunk_size: int | None) -> tuple[core_form.Cut, int]:
        shapes = core_form.abstract(_in_types_of_core(inputs, state))
        kernel.check(shapes)
        expanded = jax.eval_shape(core_form.expand_time, shapes)
        cut = core_form.cut_tiles(expanded, **dataclasses.asdict(kernel.limits(expanded)))
        tiles = functools.partial(core_form.to_tiles, cut=cut)
        return cut, kernel.chunk_size(jax.eval_shape(tiles, expanded, state)[0], chunk_size)

    def check(inputs: Inputs, state: Array, *, chunk_size: int | None) -> None:
        plan(inputs, state, chunk_size)

    def run(
        inputs: Inputs,
        state: Array,
        *,
        scale: float | None,
        chunk_size: int | None,
        home: Home | None = None,
    ) -> tuple[Array, Array]:
        cut, chunk = plan(inputs, state, chunk_size)
        return _run(kernel, home, _in_types_of_core(inputs, state), state, scale, chunk, cut)

    return Implementation(
        kernel.name,
        run,
        check,
        kernel.rank,
        kernel.check_device,
        kernel.platforms,
        takes_scale=True,
    )


def _in_types_of_core(inputs: Inputs, state: Array) -> Inputs:
    """Converts inputs to the types that a kernel takes.

    Query, key and value get their widest type, and a gate gets that type or float32. If the state
    is wider than float32, all inputs get its type.
    """
    if inputs.accumulation_dtype != state.dtype or state.dtype == jnp.float64:
        return inputs.astype(state.dtype)
    dtype = jnp.result_type(inputs.query, inputs.key, inputs.value)

    cast = {
        name: x.astype(dtype)
        for name, x in inputs._asdict().items()
        if x is not None and (name in VECTORS or x.dtype != jnp.float32)
    }
    return inputs._replace(**cast)


def _run(
    kernel: Kernel,
    home: Home | None,
    inputs: Inputs,
    state: Array,
    scale: float | None,
    chunk: int,
    cut: core_form.Cut,
) -> tuple[Array, Array]:
    JQ, JK, JO = inputs.query.shape[-1], inputs.key.shape[-1], inputs.mark.shape[-3]
    *_, DK, DV, JT = state.shape
    if 0 in state.shape:
        return jnp.zeros((*state.shape[:-3], inputs.length, DV, JO), state.dtype), state
    outside = inputs.direct is not None and JQ * JK > 1
    number = 1.0 if scale is None else scale
    summed = outside or JQ > 1 or cut.DK_tiles > 1 or scale is None
    call = _Call(
        kernel, home, number, chunk, jnp.dtype(state.dtype if summed else inputs.query.dtype)
    )

    core, state = core_form.to_tiles(core_form.expand_time(inputs), state, cut)
    length = core.length
    core = core.lengthened(-(-length // chunk) * chunk)
    output, state = _differentiable(call)(core, state)
    output, state = core_form.from_tiles(output[..., :length, :, :], state, (DK, DV, JT, JO))
    output = core_form.join_time(output, JQ, JK)
    if outside:
        output += number * core_form.direct_term(inputs, state.dtype)
    return output, state


@dataclass(frozen=True)
class _Call:
    """A kernel with all of its static arguments."""

    kernel: Kernel
    home: Home | None
    scale: float
    chunk: int
    output_dtype: jnp.dtype

    def forward(self, core: Inputs, state: Array) -> tuple[Array, Array, Any]:
        return self.kernel.forward(
            core, state, scale=self.scale, chunk=self.chunk, output_dtype=self.output_dtype
        )

    def backward(
        self, core: Inputs, saved: Any, output_bar: Array, state_bar: Array
    ) -> tuple[Inputs, Array]:
        return self.kernel.backward(
            core, saved, output_bar, state_bar, scale=self.scale, chunk=self.chunk
        )


@functools.lru_cache(maxsize=256)
def _differentiable(call: _Call) -> Callable[[Inputs, Array], tuple[Array, Array]]:
    """Returns the kernel with its derivative rule, for any number of leading axes."""

    def forward(core: Inputs, state: Array) -> tuple[tuple[Array, Array], tuple[Inputs, Any]]:
        function = over_leading_axes(call.forward, state.ndim - 3, call.home)
        output, state, saved = once(function, "plstm_1d")(core, state)
        return (output, state), (core, saved)

    def backward(
        residuals: tuple[Inputs, Any], cotangents: tuple[Array, Array]
    ) -> tuple[Inputs, Array]:
        function = over_leading_axes(call.backward, cotangents[1].ndim - 3, call.home)
        return once(function, "plstm_1d")(*residuals, *cotangents)

    @jax.custom_vjp
    def run(core: Inputs, state: Array) -> tuple[Array, Array]:
        return forward(core, state)[0]

    run.defvjp(forward, backward)
    return run
