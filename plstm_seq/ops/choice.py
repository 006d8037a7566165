"""The one dispatcher of all ops: what an implementation is, and which one computes a call."""

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
    """The `check` of an implementation that computes every call."""
    del inputs, state, options


def runs_everywhere(device: Any) -> None:
    """The `check_device` of an implementation that runs on every device."""
    del device


def always_first(inputs: Any, platform: str) -> int:
    """The `rank` of an implementation that is never likely to be slow."""
    del inputs, platform
    return 0


@dataclass(frozen=True)
class Implementation:
    """A way of computing an op, and what it knows about itself.

    Attributes:
        name: what a user calls it by (`implementation=`).
        run: `run(inputs, state, **options)` returns the output and the last state. What state and
            options are is the op's own; arguments are checked. The output may have any
            floating-point type and is not scaled yet. Where it finds that it does not support the
            call, it raises a NotImplementedError.
        check: takes the same arguments and raises a NotImplementedError with the reason where the
            call is not supported. It looks at shapes and types alone.
        rank: `rank(inputs, platform)` with the platform "cpu", "gpu" or "tpu": where nothing was
            measured, the implementations with the smallest number are tried first.
        check_device: `check_device(device)` raises a NotImplementedError with the reason where a
            device does not run it.
        platforms: those that it can be lowered for ("cuda", "tpu"); `run` then has a further option
            `home` for `device.at_home`. Empty: all of them.
        takes_scale: whether `run` has a further option `scale`, a number that it multiplies the
            output with; where that is None, its output stays in the type of accumulation.
        forward_mode: whether forward mode goes through it.
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
    """An implementation with the options that a call would run it with."""

    implementation: Implementation
    options: Mapping[str, Any]


OLD_NAMES: Mapping[str, tuple[str, ...]] = {
    "pallas_gpu": ("mosaic_gpu", "triton"),
    "pallas_gpu_small": ("mosaic_gpu_small",),
    "pallas_tpu": ("mosaic_tpu",),
}
"""What implementations were called when their names said the machine instead of the lowering.

Stored configs, tuned tables and commands have these names. An op has one of the new ones at most.
"""


def table(*implementations: Form) -> dict[str, Form]:
    """Implementations by their names."""
    return {each.name: each for each in implementations}


def current_name(implementations: Collection[str], name: str) -> str:
    """What the op of these implementations calls one today; other names as they are."""
    return next((new for new in OLD_NAMES.get(name, ()) if new in implementations), name)


def choose(implementations: Mapping[str, Form], name: str | None) -> list[Form]:
    """The implementation that was named, also by its old name, or all of them.

    Raises:
        ValueError: there is none of this name.
    """
    if name is None:
        return list(implementations.values())
    name = current_name(implementations, name)
    require_choice("implementation", name, implementations)
    return [implementations[name]]


def by_rank(implementations: Iterable[Form], inputs: Any, device: Any) -> list[Form]:
    """Implementations in the order in which they are tried on a device."""
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
    """Compute an op by the first candidate that does not decline.

    A named implementation is part of the program whatever the device; where it is lowered for a
    platform that it is not for, it raises an UnsupportedError. With none named, a kernel for the
    default device is only taken where the program is lowered for its platform; for all other
    platforms it is the form that would be taken on a CPU.

    Args:
        op: name of the op, for errors.
        candidates: those for a device, in the order of preference.
        inputs: the op's `Inputs`, which have a query and a value.
        state: what else `run` takes; None where an op has no states.
        scale: factor of the output, checked here; None: `DK ** -0.5`.
        named: whether the user named the implementation, whose reason is raised then.

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
    """A call of an op without its arrays; fields as the arguments of `compute`."""

    op: str
    candidates: Callable[[Any], Iterable[Candidate]]
    scale: float | Array
    named: bool

    def run(self, candidate: Candidate, device: Any, inputs: Any, state: Any) -> tuple[Array, Any]:
        """Compute by one candidate, on other platforms than its own by another one.

        Raises:
            NotImplementedError: it declines.
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
        """Why programs for other platforms are refused."""
        try:
            form.check_device(device)
        except NotImplementedError as reason:
            if not self.named or belongs(device.platform, form.platforms):
                raise
            return str(reason)
        return f"needs a program for {' or '.join(form.platforms)}: {form.name} is for no other"

    def _portable(self, inputs: Any, state: Any) -> Candidate:
        """What would be taken on a CPU, and can be lowered for every platform."""
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
        """Compute by one candidate; the output is scaled and in the type of the value."""
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
