"""What the gates of a model over grids are, cell by cell; the model stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Shaped

from plstm_seq.layers.grid import Mode, PLSTM2DLayer
from plstm_seq.models import VisionModel


@dataclass(frozen=True)
class GridLayerRecord:
    """The gates of one pLSTM layer over a batch of grids; arrays on the host.

    Attributes:
        block: number of the block, from 0.
        mode: "P" or "D".
        orientations: the corners from which the grid is read, see `PLSTM2DConfig`.
        gates: of `PLSTM2DLayer.gates`, by name: [B, H, O, X, Y, ...], `direct` [B, H, X, Y, ...].
    """

    block: int
    mode: Mode
    orientations: tuple[int, ...]
    gates: dict[str, Float[np.ndarray, "B H ..."]]


class GridRecording(NamedTuple):
    """A run over some images or grids.

    Attributes:
        inputs: what the model read, [B, X, Y, C] or [B, X, Y].
        outputs: what it returned.
        layers: of each block whose mixer is a pLSTM layer, in order.
    """

    inputs: Shaped[np.ndarray, "B X Y *C"]
    outputs: Float[np.ndarray, "B *S V"]
    layers: tuple[GridLayerRecord, ...]


def record_grid(model: VisionModel, inputs: Shaped[Array, "B X Y *C"]) -> GridRecording:
    """Run a model over images or grids, and keep the gates of its pLSTM layers.

    Args:
        model: any; it is not changed.
        inputs: images or symbols, as the model reads them. All gates of all cells are kept.

    Raises:
        ValueError: no block of the model has a pLSTM layer.
    """
    layers = {
        number: block.mixer
        for number, block in enumerate(model.blocks)
        if isinstance(block.mixer, PLSTM2DLayer)
    }
    if not layers:
        raise ValueError("model: got one without a pLSTM layer, whose gates could be recorded")
    outputs, gates = jax.device_get(_record(*nnx.split(model), jnp.asarray(inputs)))
    made = []
    for number, layer in layers.items():
        names = (*layer.gate_names, "direct")  # a compiled function sorts them
        ordered = {name: gates[number][name] for name in names if name in gates[number]}
        made.append(GridLayerRecord(number, layer.mode, layer.config.orientations, ordered))
    return GridRecording(np.asarray(inputs), outputs, tuple(made))


class _Heard(nnx.Module):
    """A layer that tells its gates."""

    def __init__(self, layer: PLSTM2DLayer, tell: Callable[[dict[str, Array]], None]):
        self.layer, self.tell = layer, tell

    def __call__(self, x: Array) -> Array:
        self.tell(self.layer.gates(x))
        return self.layer(x)


@partial(jax.jit, static_argnums=0)
def _record(
    graphdef: nnx.GraphDef[Any], variables: Any, inputs: Array
) -> tuple[Array, dict[int, dict[str, Array]]]:
    model: VisionModel = nnx.merge(graphdef, variables)
    gates: dict[int, dict[str, Array]] = {}
    for number, block in enumerate(model.blocks):
        if isinstance(block.mixer, PLSTM2DLayer):
            block.mixer = _Heard(block.mixer, partial(gates.__setitem__, number))
    return model(inputs), gates
