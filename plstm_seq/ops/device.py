"""The device that a call runs on, as far as that is known while it is traced."""

from typing import Any

import jax


def default_device() -> Any:
    """What `jax.default_device` names, else the first device.

    Inside `jit` the arguments' own devices are not known: a program for another device than the
    default one has to name its implementation.
    """
    named: Any = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(named, str):
        return jax.devices(named)[0]
    return jax.devices()[0] if named is None else named


def gpu_capability() -> str:
    """The compute capability of the NVIDIA GPU that a call runs on.

    Raises:
        NotImplementedError: it runs on none.
    """
    device = default_device()
    if device.platform != "gpu":
        raise NotImplementedError(f"needs an NVIDIA GPU, the default device is {device}")
    return str(getattr(device, "compute_capability", "unknown"))


def as_on_cpu() -> Any:
    """A context in which ops choose as on a CPU: no kernels for one kind of device alone."""
    try:
        return jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names others alone
        return jax.default_device(None)
