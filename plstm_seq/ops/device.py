"""Where a call runs: the default device while tracing, and kernels for some platforms alone."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import mlir


class UnsupportedError(NotImplementedError):
    """Raised if a named implementation does not support the call or does not run here."""


def default_device() -> Any:
    """Return the device that `jax.default_device` names, else the first device.

    Inside `jit` neither the devices of the arguments nor the platforms of an export are known.
    """
    named: Any = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(named, str):
        return jax.devices(named)[0]
    return jax.devices()[0] if named is None else named


def cpu() -> Any:
    """Return the CPU as a device, or None if JAX_PLATFORMS excludes it in this process."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        return None


def as_on_cpu() -> Any:
    """Return a context in which ops choose implementations as on a CPU, so no device's kernels."""
    return jax.default_device(cpu())


def gpu_capability(device: Any) -> str:
    """Return the compute capability of an NVIDIA GPU.

    Raises:
        NotImplementedError: the device is not an NVIDIA GPU.
    """
    if device.platform != "gpu":
        raise NotImplementedError(f"needs an NVIDIA GPU, the default device is {device}")
    return str(getattr(device, "compute_capability", "unknown"))


def is_staged() -> bool:
    """Return whether jax is tracing a program now, as inside `jax.jit`."""
    return isinstance(jnp.zeros(()), Tracer)


_ONE_PLATFORM = ContextVar("one_platform", default=False)


@contextmanager
def for_the_default_device() -> Iterator[None]:
    """A context in which what is traced is for the default device alone.

    So no other form stands beside a kernel, for other platforms; that matters where a program is
    looked at and not lowered. What `jax.jit` traces in it is kept, also for later calls.
    """
    token = _ONE_PLATFORM.set(True)
    try:
        yield
    finally:
        _ONE_PLATFORM.reset(token)


def is_for_several_platforms() -> bool:
    """Whether what is traced may be lowered for other platforms than that of the default device."""
    return is_staged() and cpu() is not None and not _ONE_PLATFORM.get()


class Home(NamedTuple):
    """The platforms that a kernel is compiled for.

    Attributes:
        platforms: the names that `jax.jit(...).trace(...).lower(lowering_platforms=...)` takes.
        refusal: the reason for the error if a program with the kernel is lowered for another
            platform. None: the program never reaches the kernel there, because the kernel is in a
            branch of `jax.lax.platform_dependent`; zeros can then replace it.
    """

    platforms: tuple[str, ...]
    refusal: str | None


def at_home(function: Callable[..., Any], home: Home | None, *arguments: Any) -> Any:
    """Return `function(*arguments)`, lowered for the platforms of its home alone.

    If a program is lowered for several platforms at once, jax would lower its kernels for each of
    them, also for platforms on which the program never reaches the kernels.

    Args:
        function: a function of pytrees of arrays that contains kernels; it is not differentiable.
        home: the platforms of the kernels; None: the function is lowered for every platform.
        *arguments: the pytrees.

    Raises:
        UnsupportedError: the program is lowered for another platform; outside a program the error
            is raised at once.
    """
    if home is None:
        return function(*arguments)
    leaves, given = jax.tree.flatten(arguments)
    structure: Any = None

    def flat(*leaves: Any) -> list[Any]:
        nonlocal structure
        results, structure = jax.tree.flatten(function(*jax.tree.unflatten(given, leaves)))
        return results

    program = jax.make_jaxpr(flat)(*leaves)
    return jax.tree.unflatten(structure, _at_home.bind(*leaves, program=program, home=home))


def check_runs_here(program: ClosedJaxpr) -> None:
    """Raise an error if the program has a named implementation that the default device cannot run.

    Raises:
        UnsupportedError: there is such an implementation; the message gives its reason.
    """
    platform = default_device().platform
    for home in _homes(program.jaxpr):
        if home.refusal is not None and not belongs(platform, home.platforms):
            raise UnsupportedError(home.refusal)


def belongs(platform: str, platforms: tuple[str, ...]) -> bool:
    """Return whether a device's platform ("gpu") fits one of a program's ("cuda", "rocm")."""
    names = ("cuda", "rocm") if platform == "gpu" else (platform,)
    return not set(names).isdisjoint(platforms)


def _homes(jaxpr: Jaxpr) -> Any:
    """Yield the homes of all kernels of a program, also those inside its loops and calls."""
    for equation in jaxpr.eqns:
        if equation.primitive is _at_home:
            yield equation.params["home"]
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)
        ):
            if isinstance(value, ClosedJaxpr):
                yield from _homes(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from _homes(value)


_at_home = Primitive("kernel_of_one_platform")
_at_home.multiple_results = True


@_at_home.def_impl
def _(*arguments: Any, program: ClosedJaxpr, home: Home) -> list[Any]:
    """Outside of programs; what is compiled in it, its own `jax.jit` keeps."""
    (platform,) = {device.platform for x in arguments for device in x.devices()}
    if not belongs(platform, home.platforms):
        raise UnsupportedError(home.refusal or f"needs a program for {home.platforms}")
    return jaxpr_as_fun(program)(*arguments)


@_at_home.def_abstract_eval
def _(*arguments: Any, program: ClosedJaxpr, home: Home) -> list[Any]:
    del arguments, home
    return program.out_avals


def _lower(
    platform: str | None, context: Any, *arguments: Any, program: ClosedJaxpr, home: Home
) -> Any:
    if platform in home.platforms:
        function = jaxpr_as_fun(program)
    elif home.refusal is None:

        def function(*_: Any) -> list[Any]:
            return [jnp.zeros(x.shape, x.dtype) for x in program.out_avals]

    else:
        raise UnsupportedError(home.refusal)
    return mlir.lower_fun(function)(context, *arguments)


mlir.register_lowering(_at_home, functools.partial(_lower, None))
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(_at_home, functools.partial(_lower, _platform), platform=_platform)
