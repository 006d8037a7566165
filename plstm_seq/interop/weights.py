"""The arrays of our modules in files that others read: safetensors and `.npz`."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from plstm_seq.interop.arrays import read_arrays, write_arrays


def named_arrays(module: nnx.Module) -> dict[str, Array]:
    """Return every array of a module by its dotted path, such as `blocks.0.mixer.source.bias`.

    Those are the parameters, and the numbers that it keeps as `Hyperparameter`s.
    """
    return {name: variable.get_value() for name, (_, variable) in _variables(module).items()}


def save_weights(
    module: nnx.Module, path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the arrays of a module.

    Args:
        module: any module.
        path: `.safetensors` or `.npz`; see `write_arrays`.
        metadata: texts for the head of a `.safetensors` file, for instance the config.
    """
    write_arrays(path, named_arrays(module), metadata)


def load_weights(module: nnx.Module, source: str | Path | Mapping[str, ArrayLike]) -> None:
    """Fill a module in place; also one made by `nnx.eval_shape`.

    Args:
        module: of the shape of the one that was saved.
        source: a file of `save_weights`, or its content. Each array is cast to the type of the
            one that it fills.

    Raises:
        ValueError: a name is unknown or missing, or a shape does not fit; every such name is
            listed, and the module is unchanged.
    """
    arrays = source if isinstance(source, Mapping) else read_arrays(source)
    variables = _variables(module)
    problems = [f"{name}: not in the module" for name in arrays.keys() - variables.keys()]
    filled = []
    for name, (path, variable) in variables.items():
        if name not in arrays:
            problems.append(f"{name}: not among the arrays")
            continue
        array = jnp.asarray(arrays[name], variable.dtype)
        if array.shape != variable.shape:
            problems.append(f"{name}: got shape {array.shape}, expected {variable.shape}")
        filled.append((path, variable.replace(array)))
    if problems:
        raise ValueError("arrays do not fit the module:\n  " + "\n  ".join(sorted(problems)))
    nnx.update(module, nnx.from_flat_state(filled))


def _variables(module: nnx.Module) -> dict[str, tuple[tuple, nnx.Variable]]:
    flat = nnx.to_flat_state(nnx.state(module))
    return {".".join(map(str, path)): (path, variable) for path, variable in flat}
