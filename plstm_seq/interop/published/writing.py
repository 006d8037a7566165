"""Converts our parameters to the names and shapes of the published implementation."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flax import nnx

from plstm_seq.interop.published.dialects import Dialect, from_nnx
from plstm_seq.interop.published.parameters import (
    Path,
    published_graph_parameters,
    published_name,
    published_shape,
)
from plstm_seq.layers import PLSTM1DLayer, Transition
from plstm_seq.layers.dag import PLSTMDAGLayer
from plstm_seq.layers.grid import GridAttention, PLSTM2DLayer
from plstm_seq.layers.transition import Factorized, TransitionTable


def published_parameters(module: nnx.Module, dialect: Dialect = "nnx") -> dict[str, np.ndarray]:
    """Return the parameters of a module with the names and shapes of the published implementation.

    This is the inverse of `load_parameters`. Whether the published code computes the same as the
    module depends on the module's options: it does if `read_config` made them.

    Args:
        module: A pLSTM layer, a block around a 1D or 2D pLSTM layer or around attention, a language
            model or a vision model.
        dialect: The framework of the published code: "nnx", "linen" (with dotted paths) or "torch".
            Graph layers were published only in torch.

    Raises:
        ValueError: If the published code has no such layer, transition or parameter.
    """
    if isinstance(module, PLSTMDAGLayer):
        if dialect != "torch" or module.config.published is None:
            raise ValueError(
                f"dialect, config.published: got {dialect!r} and {module.config.published!r}, "
                "expected 'torch' and 'node' or 'edge': other layers of graphs were not published"
            )
        return published_graph_parameters(module)
    parts: dict[Path, Any] = dict(nnx.iter_modules(module))
    _refuse(parts.values())
    named: dict[str, np.ndarray] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        array = np.asarray(variable.get_value())
        shape = published_shape(parts, path, array.shape)
        named[published_name(parts, path)] = array.reshape(shape)
    return from_nnx(named, dialect)


def _refuse(parts: Iterable[Any]) -> None:
    """Raise `ValueError` if a module has no counterpart in the published code."""
    for part in parts:
        mixer = getattr(part, "mixer", None)
        if mixer is not None and not isinstance(mixer, PLSTM1DLayer | PLSTM2DLayer | GridAttention):
            raise ValueError(f"mixer: the published code has no {type(mixer).__name__}")
        if isinstance(part, Transition) and not isinstance(part.config, Factorized):
            raise ValueError(f"transition: the published code has no {type(part.config).__name__}")
        if isinstance(part, TransitionTable):
            raise ValueError("transition: the published code has no table of transitions by token")
        if isinstance(part, PLSTM1DLayer) and part.config.source is None:
            raise ValueError("source: the published layer has one, got None")
        if isinstance(part, PLSTM1DLayer) and part.config.learned_initial_state:
            raise ValueError("learned_initial_state: the published layer begins with zeros")
        if isinstance(part, PLSTM1DLayer) and part.config.mark_reads != "before":
            raise ValueError("mark_reads: the published mark reads the state before the step")
