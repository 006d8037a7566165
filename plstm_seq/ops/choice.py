"""The dispatcher of all ops: the description of an implementation, and the choice of one."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
from jax import Array

from plstm_seq.ops import varying
from plstm_seq.ops.arguments import accumulation_dtype, factor, require_choice
from plstm_seq.ops.device import (
    Home,
    UnsupportedError,
    belongs,
    cpu,
    default_device,
    is_for_several_platforms,
)
from plstm_seq.ops.reverse_mode import without_forward_mode


def supports_all(inputs: Any, state: Any, **options: Any) -> None:
    """Serves as the `check` of an implementation that supports every call."""
    del inputs, state, options


def runs_everywhere(device: Any) -> None:
    """Serves as the `check_device` of an implementation that runs on every device."""
    del device


def always_first(inputs: Any, platform: str) -> int:
    """Serves as the `rank` of an implementation that is not expected to be slow."""
    del inputs, platform
    return 0


@dataclass(frozen=True)
class Implementation:
    """One way of computing an op, with its requirements and preferences.

    Attributes:
        name: the name by which a user selects it (`implementation=`).
        run: `run(inputs, state, **options)` returns the output and the last state. Each op defines
            its own state and options, and checks the arguments before. The output may have any
            floating-point type and is not scaled yet. `run` raises a NotImplementedError if it
            finds that it does not support the call.
        check: takes the same arguments as `run` and raises a NotImplementedError with the reason if
            the call is not supported. It looks at shapes and types alone.
        rank: `rank(inputs, platform)` returns a number, for the platform "cpu", "gpu" or "tpu". If
            nothing was measured, the implementations with the smallest numbers are tried first.
        check_device: `check_device(device)` raises a NotImplementedError with the reason if the
            implementation does not run on the device.
        platforms: the platforms that it can be lowered for ("cuda", "tpu"); `run` then has a
            further option `home` for `device.at_home`. Empty: all platforms.
        takes_scale: whether `run` has a further option `scale`, a number by which it multiplies the
            output. If the scale is None, the output stays in the type of accumulation.
        forward_mode: whether it can be differentiated in forward mode.
    """

    name: str
    run: Callable[..., tuple[Array, Any]]
    check: Callable[..., None] = supports_all
    rank: Callable[[Any, str], int] = always_first
    check_device: Callable[[Any], None] = runs_everywhere
    platforms: tuple[str, ...] = ()
    takes_scale: bool = False
    forward_mode: bool = False


Form = TypeVar("Form", bound=Implementation)


class Candidate(NamedTuple):
    """An implementation, with the options for a call."""

    implementation: Implementation
    options: Mapping[str, Any]


OLD_NAMES: Mapping[str, tuple[str, ...]] = {
    "pallas_gpu": ("mosaic_gpu", "triton"),
    "pallas_gpu_small": ("mosaic_gpu_small",),
    "pallas_tpu": ("mosaic_tpu",),
}
"""The former names of implementations, after a machine, and the current ones, after a lowering.

Stored configs, tuned tables and commands contain the former names. An op has at most one of the
current names of each.
"""


def table(*implementations: Form) -> dict[str, Form]:
    """Returns a dictionary from names to implementations."""
    return {each.name: each for each in implementations}


def current_name(implementations: Collection[str], name: str) -> str:
    """Translates a former name into the op's current one; returns other names unchanged."""
    return next((new for new in OLD_NAMES.get(name, ()) if new in implementations), name)


def choose(implementations: Mapping[str, Form], name: str | None) -> list[Form]:
    """Returns the named implementation (its former name works, too), or all if none was named.

    Raises:
        ValueError: the op has no implementation of this name.
    """
    if name is None:
        return list(implementations.values())
    name = current_name(implementations, name)
    require_choice("implementation", name, implementations)
    return [implementations[name]]


def by_rank(implementations: Iterable[Form], inputs: Any, device: Any) -> list[Form]:
    """Returns the implementations in the order in which they are tried on a device."""
    return sorted(implementations, key=lambda each: each.rank(inputs, device.platform))


def compute(
    op: str,
    candidates: Callable[[Any], Iterable[Candidate]],
    inputs: Any,
    state: Any = None,
    *,
    scale: float | Array | None,
    named: bool,
) -> tuple[Array, Any]:
    """Computes an op by the first candidate that does not decline.

    An implementation that the user named is part of the program on every device; if the program is
    lowered for a platform that it does not support, it raises an UnsupportedError. If none was
    named, a kernel for the default device is used only where the program is lowered for the
    kernel's platform; on all other platforms the program uses the implementation that would be
    chosen on a CPU.

    Args:
        op: name of the op, for errors.
        candidates: returns the candidates for a device, in the order of preference.
        inputs: the op's `Inputs`, which have a query and a value.
        state: the second argument of `run`; None for an op without states.
        scale: factor of the output, checked here; None: `DK ** -0.5`.
        named: whether the user named the implementation; if so, its own reason is raised.

    Returns:
        The output in the type of the value, and the last state.

    Raises:
        TypeError: the scale is not a real number.
        ValueError: the scale has axes.
        UnsupportedError: the named implementation declined.
        ExceptionGroup: none was named and all declined; it holds every reason.
    """
    scale = factor(scale, inputs.query, accumulation_dtype(*jax.tree.leaves((inputs, state))))
    inputs, state = varying.alike((inputs, state))
    call = _Call(op, candidates, scale, named)
    device, reasons = default_device(), {}
    for candidate in candidates(device):
        try:
            return call.run(candidate, device, inputs, state)
        except NotImplementedError as reason:
            reasons[candidate.implementation.name] = reason
    if named:
        (reason,) = reasons.values()
        raise UnsupportedError(str(reason)) from reason
    raise ExceptionGroup(
        f"no implementation of {op} supports this call",
        [NotImplementedError(f"{name}: {reason}") for name, reason in reasons.items()],
    )


class _Call(NamedTuple):
    """A call of an op without its arrays; the fields are arguments of `compute`."""

    op: str
    candidates: Callable[[Any], Iterable[Candidate]]
    scale: float | Array
    named: bool

    def run(self, candidate: Candidate, device: Any, inputs: Any, state: Any) -> tuple[Array, Any]:
        """Computes the call by one candidate, and by another one on platforms it does not support.

        Raises:
            NotImplementedError: the candidate declines.
        """
        form, options = candidate
        refusal = self._refusal(form, device)
        form.check(inputs, state, **options)
        if self.named or not form.platforms or not is_for_several_platforms():
            return self._by(candidate, refusal, inputs, state)
        elsewhere = functools.partial(self._by, self._portable(inputs, state), None)
        here = functools.partial(self._by, candidate, None)
        by_platform = dict.fromkeys(form.platforms, here)
        return jax.lax.platform_dependent(inputs, state, default=elsewhere, **by_platform)

    def _refusal(self, form: Implementation, device: Any) -> str:
        """Returns the reason for the error in programs for other platforms."""
        try:
            form.check_device(device)
        except NotImplementedError as reason:
            if not self.named or belongs(device.platform, form.platforms):
                raise
            return str(reason)
        return f"needs a program for {' or '.join(form.platforms)}: {form.name} is for no other"

    def _portable(self, inputs: Any, state: Any) -> Candidate:
        """Returns the first candidate for a CPU that can be lowered for every platform."""
        reason = NotImplementedError("every implementation is for one platform alone")
        for candidate in self.candidates(cpu()):
            form, options = candidate
            if form.platforms:
                continue
            try:
                form.check(inputs, state, **options)
            except NotImplementedError as declined:
                reason = declined
            else:
                return candidate
        raise reason

    def _by(
        self, candidate: Candidate, refusal: str | None, inputs: Any, state: Any
    ) -> tuple[Array, Any]:
        """Computes the call by one candidate; the output is scaled and has the type of `value`."""
        form, options = candidate
        options = dict(options)
        folded = form.takes_scale and isinstance(self.scale, float)
        if form.takes_scale:
            options["scale"] = self.scale if folded else None
        if form.platforms:
            options["home"] = Home(form.platforms, refusal)
        function = functools.partial(form.run, **options)
        if form.forward_mode:
            output, last = function(inputs, state)
        else:
            what, remedy = f"{self.op} by {form.name}", 'implementation="recurrent"'
            output, last = without_forward_mode(what, remedy, function, inputs, state)
        return (output if folded else self.scale * output).astype(inputs.value.dtype), last
