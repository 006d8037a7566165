"""What the layers of a model compute at each position or cell. The model is not changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Int, Shaped

from plstm_seq.layers import PLSTM1DLayer
from plstm_seq.layers.grid import Mode, PLSTM2DLayer
from plstm_seq.models import SequenceModel, VisionModel

GATES = ("source", "transition", "mark", "direct")


@dataclass(frozen=True)
class LayerRecord:
    """The gates, states and outputs of a pLSTM layer for some sequences; arrays on the host.

    The gates are those of the recurrence. Where the mark reads the state after its step, the mark
    includes the transition of that step, and the direct term what the step itself wrote.

    Attributes:
        block: the number of the block, from 0.
        source: [B, T, H, JT, JK, JV].
        transition: [B, T, H, JT, JT].
        mark: [B, T, H, JO, JQ, JT].
        direct: [B, T, H, JO, JQ, JK, JV]; None if there is no such term.
        query: [B, T, H, DK, JQ].
        key: [B, T, H, DK, JK].
        value: [B, T, H, DV, JV].
        initial_state: [H, DK, DV, JT], the state before the first step.
        states: [B, T, H, DK, DV, JT], the state after each step.
        outputs: [B, T, D], the output of the layer.
    """

    block: int
    source: Float[np.ndarray, "B T H JT JK JV"]
    transition: Float[np.ndarray, "B T H JT JT"]
    mark: Float[np.ndarray, "B T H JO JQ JT"]
    direct: Float[np.ndarray, "B T H JO JQ JK JV"] | None
    query: Float[np.ndarray, "B T H DK JQ"]
    key: Float[np.ndarray, "B T H DK JK"]
    value: Float[np.ndarray, "B T H DV JV"]
    initial_state: Float[np.ndarray, "H DK DV JT"]
    states: Float[np.ndarray, "B T H DK DV JT"]
    outputs: Float[np.ndarray, "B T D"]


class Recording(NamedTuple):
    """The outputs of a model for some sequences, and the records of its layers.

    Attributes:
        tokens: [B, T], the sequences.
        logits: [B, T, V], the model's output.
        layers: the record of each block whose mixer is a pLSTM layer, in order.
    """

    tokens: Int[np.ndarray, "B T"]
    logits: Float[np.ndarray, "B T V"]
    layers: tuple[LayerRecord, ...]


def record(model: SequenceModel, tokens: Int[Array, "B T"]) -> Recording:
    """Run a model over sequences, and keep what its pLSTM layers compute on the way.

    Args:
        model: any model; it is not changed.
        tokens: [B, T]. The gates and states of all positions are kept, so use only some tens of
            sequences.

    Raises:
        ValueError: no block of the model has a pLSTM layer.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import LayerRecord, Recording, record
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> found: Recording = record(model, jnp.array([[0, 1, 2, 1]]))
        >>> layer: LayerRecord = found.layers[0]
        >>> found.logits.shape, layer.transition.shape, layer.states.shape
        ((1, 4, 3), (1, 4, 1, 2, 2), (1, 4, 1, 1, 2, 2))
    """
    numbers = _layers_of(model, PLSTM1DLayer)
    logits, layers = jax.device_get(_record(*nnx.split(model), jnp.asarray(tokens)))
    made = tuple(LayerRecord(block, **layers[block]) for block in numbers)
    return Recording(np.asarray(tokens), logits, made)


def _layers_of(model: SequenceModel | VisionModel, kind: type) -> dict[int, Any]:
    """Return the pLSTM layers of a model, by the number of their block."""
    mixers = {number: block.mixer for number, block in enumerate(model.blocks)}
    layers = {number: mixer for number, mixer in mixers.items() if isinstance(mixer, kind)}
    if not layers:
        raise ValueError("model: got one without a pLSTM layer, whose gates could be recorded")
    return layers


@partial(jax.jit, static_argnums=0)
def _record(
    graphdef: nnx.GraphDef[Any], variables: Any, inputs: Array
) -> tuple[Array, dict[int, dict[str, Array]]]:
    model: SequenceModel | VisionModel = nnx.merge(graphdef, variables)
    return model.record(inputs)


@dataclass(frozen=True)
class TokenGates:
    """The gates of a layer by token, averaged over all positions of the token.

    Where a gate depends on its token alone, the spread is zero to rounding error. After a
    convolution or another block it also depends on earlier tokens, that is, on the context.

    Attributes:
        count: [V], the number of positions of each token. The gates of a token without positions
            are NaN.
        mean: the mean of each gate by name, [V, H, and the gate's own axes].
        spread: the root mean square Frobenius distance to the mean, for each gate by name, [V, H].
    """

    count: Int[np.ndarray, " V"]
    mean: dict[str, Float[np.ndarray, "V H ..."]]
    spread: dict[str, Float[np.ndarray, "V H"]]

    @property
    def transitions(self) -> Float[np.ndarray, "V H JT JT"]:
        """The mean transition of each token."""
        return self.mean["transition"]


def by_token(recording: Recording, layer: int = 0, *, num_tokens: int) -> TokenGates:
    """Compute the mean and the spread over contexts of the gates of each token.

    Args:
        recording: a recording of sequences in which every token occurs many times.
        layer: the index in `recording.layers`.
        num_tokens: V, the size of the vocabulary.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import TokenGates, by_token, record
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> recording = record(model, jnp.array([[0, 1, 2, 1]]))
        >>> gates: TokenGates = by_token(recording, num_tokens=3)
        >>> gates.count.tolist(), gates.transitions.shape
        ([1, 2, 1], (3, 1, 2, 2))
    """
    tokens = recording.tokens.ravel()
    count = np.bincount(tokens, minlength=num_tokens)
    mean, spread = {}, {}
    for name in GATES:
        gate = getattr(recording.layers[layer], name)
        if gate is None:
            continue
        values = gate.reshape(len(tokens), *gate.shape[2:]).astype(np.float64)
        middle = _mean(values, tokens, count)
        distance = np.square(values - middle[tokens]).reshape(*values.shape[:2], -1).sum(-1)
        mean[name], spread[name] = middle, np.sqrt(_mean(distance, tokens, count))
    return TokenGates(count, mean, spread)


def _mean(values: np.ndarray, groups: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the mean of the rows of each group, NaN for a group without rows."""
    sums = np.zeros((len(count), *values.shape[1:]))
    np.add.at(sums, groups, values)
    known = count.reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(known > 0, sums / np.maximum(known, 1), np.nan)


@dataclass(frozen=True)
class GridLayerRecord:
    """The gates of one pLSTM layer over a batch of grids; all arrays are on the host.

    Attributes:
        block: the number of the block, from 0.
        mode: "P" or "D".
        orientations: the corners from which the grid is read, see `PLSTM2DConfig`.
        gates: the gates of `PLSTM2DLayer.record` by name, [B, H, O, X, Y, ...]; `direct` is
            [B, H, X, Y, ...].
    """

    block: int
    mode: Mode
    orientations: tuple[int, ...]
    gates: dict[str, Float[np.ndarray, "B H ..."]]


class GridRecording(NamedTuple):
    """The outputs of a model for some images or grids, and the records of its layers.

    Attributes:
        inputs: the images [B, X, Y, C] or grids [B, X, Y] that the model read.
        outputs: the outputs that the model returned for them.
        layers: the record of each block whose mixer is a pLSTM layer, in order.
    """

    inputs: Shaped[np.ndarray, "B X Y *C"]
    outputs: Float[np.ndarray, "B *S V"]
    layers: tuple[GridLayerRecord, ...]


def record_grid(model: VisionModel, inputs: Shaped[Array, "B X Y *C"]) -> GridRecording:
    """Run a model over images or grids, and keep the gates of its pLSTM layers.

    Args:
        model: any vision model; it is not changed.
        inputs: images or symbols, as the model reads them. The gates of all cells are kept.

    Raises:
        ValueError: no block of the model has a pLSTM layer.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import PLSTM2DConfig
        >>> from plstm_seq.models import VisionModel, VisionModelConfig
        >>> from plstm_seq.probing import GridLayerRecord, GridRecording, record_grid
        >>> mixer = PLSTM2DConfig(num_heads=1, orientations=(0,))
        >>> sizes = {"width": 8, "num_blocks": 1, "patch_size": 2, "position_grid": (2, 2)}
        >>> config = VisionModelConfig(mixer=mixer, **sizes)
        >>> model = VisionModel(config, output_size=3, rngs=nnx.Rngs(0))
        >>> found: GridRecording = record_grid(model, np.zeros((1, 4, 4, 3), np.float32))
        >>> layer: GridLayerRecord = found.layers[0]
        >>> found.outputs.shape, layer.gates["source"].shape[:5]
        ((1, 3), (1, 1, 1, 2, 2))
    """
    layers = _layers_of(model, PLSTM2DLayer)
    outputs, gates = jax.device_get(_record(*nnx.split(model), jnp.asarray(inputs)))
    made = []
    for number, layer in layers.items():
        names = (*layer.gate_names, "direct")  # a compiled function returns them sorted
        ordered = {name: gates[number][name] for name in names if name in gates[number]}
        made.append(GridLayerRecord(number, layer.mode, layer.config.orientations, ordered))
    return GridRecording(np.asarray(inputs), outputs, tuple(made))
