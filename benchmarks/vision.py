"""Measures the training speed of the pLSTM vision model and of a vision transformer of its size.

python benchmarks/vision.py                    the arrow-pointing protocol's model, bfloat16:
                                               12 blocks, width 192, 192 x 192, patch 16, batch 128
python benchmarks/vision.py --preset tiny      a small model for a CPU, nothing written
python benchmarks/vision.py --parts            also forward and backward of the parts of one block

A step consists of forward, backward and AdamW on one batch that stays on the device. The models
take turns, and the median of the rounds is reported. Compile time is reported separately.
"protocol_minutes" is the time of 50 epochs over 100,000 images at that speed.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
import optax
from flax import nnx
from jax import Array

from plstm_seq.layers.grid import GridAttentionConfig, PLSTM2DConfig
from plstm_seq.models import PostUpConfig
from plstm_seq.models.vision import (
    VisionModel,
    VisionModelConfig,
    make_grid_block,
    published_mixer,
)

Row = dict[str, Any]
PROTOCOL_IMAGES = 50 * 100_000


@dataclass(frozen=True)
class Preset:
    """The sizes of the models, the type to compute in, and how long to measure."""

    width: int
    num_heads: int
    num_blocks: int
    side: int
    patch_size: int
    batch: int
    dtype: str
    steps: int
    rounds: int

    def configs(self) -> dict[str, VisionModelConfig]:
        """Return the models by name, with a fused-attention transformer if the device has that."""
        cells = self.side // self.patch_size
        base = VisionModelConfig(
            width=self.width,
            num_blocks=self.num_blocks,
            mixer=published_mixer(self.num_heads),
            patch_size=self.patch_size,
            position_grid=(cells, cells),
        )
        attention = GridAttentionConfig(num_heads=self.num_heads)
        found = {"plstm": base, "vit": dataclasses.replace(base, mixer=attention)}
        if jax.default_backend() == "gpu" and self.dtype == "bfloat16":
            fused = dataclasses.replace(attention, implementation="cudnn")
            found["vit, cudnn"] = dataclasses.replace(base, mixer=fused)
        return found


PRESETS = {
    "protocol": Preset(192, 6, 12, 192, 16, 128, "bfloat16", steps=20, rounds=5),
    "tiny": Preset(24, 2, 2, 32, 8, 4, "float32", steps=2, rounds=2),
}


class Training:
    """A model, its optimizer and a compiled step that updates the state of both."""

    def __init__(self, config: VisionModelConfig, preset: Preset, seed: int = 0):
        rng = np.random.default_rng(seed)
        shape = (preset.batch, preset.side, preset.side, 3)
        self.images = jnp.asarray(rng.integers(0, 256, shape, np.uint8))
        self.targets = jnp.asarray(rng.integers(0, 2, preset.batch))
        model = VisionModel(
            config, output_size=2, dtype=jnp.dtype(preset.dtype), rngs=nnx.Rngs(seed)
        )
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)
        self.parameters = sum(x.size for x in jax.tree.leaves(parameters))
        optimizer = optax.adamw(1e-4)

        def loss(parameters: Any, images: Array, targets: Array) -> Array:
            logits = nnx.merge(graph, parameters, rest)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        def step(state: Any, images: Array, targets: Array) -> tuple[Any, Array]:
            parameters, moments = state
            value, gradient = jax.value_and_grad(loss)(parameters, images, targets)
            change, moments = optimizer.update(gradient, moments, parameters)
            return (optax.apply_updates(parameters, change), moments), value

        self.state: Any = (parameters, optimizer.init(parameters))
        begin = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=0).lower(self.state, self.images, self.targets)
        self.compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - begin

    def seconds(self, steps: int) -> float:
        """Run a number of steps, and return the mean time of a step."""
        begin, loss = time.perf_counter(), None
        for _ in range(steps):
            self.state, loss = self.compiled(self.state, self.images, self.targets)
        if not jnp.isfinite(jnp.asarray(loss)):
            raise ArithmeticError(f"the loss is {loss}")
        return (time.perf_counter() - begin) / steps


def whole_models(preset: Preset) -> list[Row]:
    """Measure all models in alternating rounds, and return one row per model."""
    trainings = {name: Training(config, preset) for name, config in preset.configs().items()}
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for training in trainings.values():
        training.seconds(2)
    for _ in range(preset.rounds):
        for name, training in trainings.items():
            times[name].append(training.seconds(preset.steps))
    rows = []
    for name, training in trainings.items():
        seconds = statistics.median(times[name])
        memory = training.compiled.memory_analysis()
        row = {
            "model": name,
            "parameters": training.parameters,
            "step_ms": 1e3 * seconds,
            "images_per_second": preset.batch / seconds,
            "protocol_minutes": PROTOCOL_IMAGES / preset.batch * seconds / 60,
            "temporary_mib": None if memory is None else memory.temp_size_in_bytes / 2**20,
            "compile_s": training.compile_seconds,
        }
        print({key: round(x, 2) if isinstance(x, float) else x for key, x in row.items()})
        rows.append(row)
    return rows


def parts(preset: Preset) -> list[Row]:
    """Time forward and forward+backward of a block and of its parts, with one row for each."""
    dtype = jnp.dtype(preset.dtype)
    cells = preset.side // preset.patch_size
    shape = (preset.batch, cells, cells, preset.width)
    x = jax.random.normal(jax.random.key(0), shape).astype(dtype)
    rows = []
    for name, config in preset.configs().items():
        for mode in ("P", "D") if isinstance(config.mixer, PLSTM2DConfig) else ("P",):
            types = {"dtype": dtype, "rngs": nnx.Rngs(0)}
            block = make_grid_block(preset.width, PostUpConfig(), config.mixer, mode, **types)
            title = f"{name}, {mode}" if isinstance(config.mixer, PLSTM2DConfig) else name
            functions: dict[str, Callable[[Any, Array], Any]] = {
                "block": lambda block, x: block(x),
                "mixer": lambda block, x: block.mixer(x),
                "feed-forward": lambda block, x: block._feed_forward(x),
            }
            if isinstance(config.mixer, PLSTM2DConfig):
                functions["gates and projections"] = lambda block, x: block.mixer.op_inputs(x)
            for part, function in functions.items():
                row = {"model": title, "part": part} | part_times(block, function, x)
                print(row)
                rows.append(row)
    return rows


def part_times(block: nnx.Module, function: Callable[[Any, Array], Any], x: Array) -> Row:
    """Return the milliseconds of one part, forward and forward+backward."""
    graph, state = nnx.split(block)

    def forward(state: Any, x: Array) -> Any:
        return function(nnx.merge(graph, state), x)

    def both(state: Any, x: Array) -> Any:
        y, vjp = jax.vjp(forward, state, x)
        return vjp(jax.tree.map(jnp.ones_like, y))

    return {
        "forward_ms": measure.measure(forward, state, x).milliseconds,
        "forward_backward_ms": measure.measure(both, state, x).milliseconds,
    }


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="protocol")
    parser.add_argument("--batch", type=int, help="images per step (default: the preset's)")
    parser.add_argument("--parts", action="store_true", help="also time the parts of a block")
    parser.add_argument("--name", default="vision_gpu", help="name of the results file")
    arguments = parser.parse_args()
    preset = PRESETS[arguments.preset]
    if arguments.batch:
        preset = dataclasses.replace(preset, batch=arguments.batch)
    rows = whole_models(preset)
    if arguments.parts:
        rows += parts(preset)
    if arguments.preset == "protocol":
        print(measure.write(arguments.name, rows, preset=dataclasses.asdict(preset)))


if __name__ == "__main__":
    main()
