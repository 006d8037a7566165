"""Compares training many members in one program with training one at a time.

python benchmarks/sweep.py                       1, 4, 16 and 64 members, into results/sweep_*.json
python benchmarks/sweep.py --members 64 256      other numbers (1 is always measured)
python benchmarks/sweep.py --implementations recurrent chunkwise chunkwise:8
                                                 the number after the colon is the chunk size
python benchmarks/sweep.py --dtype bfloat16 --name sweep_gpu_bfloat16
python benchmarks/sweep.py --cpu-smoke           a tiny model, nothing written

The task is parity with lengths up to 40; the model has width 64 and the batch size is 64. The
program is the one that `fit` and `fit_members` run: many training steps, with batches drawn on the
device. The baseline is the same program with one member and no axis of members, run by itself.
"ratio" is the number of member steps per second divided by that of the fastest baseline. Compile
time is reported separately. "device_busy" is the device's share of the time according to the
profiler, if it has events: for one member it shows whether the device is busy at all. "cores_busy"
is the processor time divided by the elapsed time, so on a CPU the number of cores minus it is what
could still be used.
"""

import argparse
import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
from device_time import device_time
from flax import nnx

import tasks
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Factorized
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.training import OptimizerConfig, TrainingConfig, Uniform, init_state, make_optimizer
from plstm_seq.training.layout import stacked
from plstm_seq.training.programs import (
    compile_program,
    length_range,
    length_ranges,
    memory_of,
    program_key,
)

Row = dict[str, Any]


def model_config(width: int, dim: int, implementation: str) -> SequenceModelConfig:
    """Return the config of the model that `plstm-seq train parity` trains, with JT = `dim`.

    Args:
        width: The width of the model.
        dim: The transition dimension (JT).
        implementation: The implementation of the op, or "default"; "chunkwise:8" has chunks of 8.
    """
    transition = Factorized(
        dim=dim,
        eigenvalue_bias_init=Constant(0.4),
        eigenvalue_weight_init=FanIn(0.3),
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
    )
    config = state_tracking(transition, width=width)
    name, _, size = implementation.partition(":")
    mixer = dataclasses.replace(
        config.mixer,
        implementation=None if name == "default" else name,
        chunk_size=int(size) if size else None,
    )
    return dataclasses.replace(config, mixer=mixer)


class Case:
    """A model and its training; it makes the states of members from their seeds."""

    def __init__(self, model: SequenceModelConfig, training: TrainingConfig, dtype: str):
        self.task = tasks.get("parity")
        self.model, self.training, self.dtype = model, training, jnp.dtype(dtype)
        self.optimizer = make_optimizer(training.optimizer, training.steps)

    def state(self, seed: int) -> Any:
        """Return the structure and the state of one member."""
        model = SequenceModel(
            len(self.task.vocabulary),
            self.model,
            output_size=len(self.task.labels),
            dtype=self.dtype,
            rngs=nnx.Rngs(seed),
        )
        return init_state(model, self.optimizer, jax.random.key(seed))

    def measure(self, members: int | None, seconds: float) -> Row:
        """Measure `members` in one program, or, if None, one member without an axis of members."""
        graphdef, state = self.state(0)
        if members is not None:
            state = stacked([self.state(seed)[1] for seed in range(members)])
        phase = self.training.curriculum.phase(0)
        key = program_key(
            graphdef,
            self.task.sample,
            self.training,
            phase.bucket,
            state,
            members=members is not None,
        )
        begin = time.perf_counter()
        program = compile_program(key)
        compile_seconds = time.perf_counter() - begin
        steps = self.training.steps_per_dispatch
        count = np.int32(steps) if members is None else np.full(members, steps, np.int32)
        lengths = length_range(phase)
        if members is not None:
            lengths = length_ranges([lengths] * members)
        state, metrics = program(state, lengths, count)
        jax.block_until_ready(metrics)
        times: list[float] = []
        worked = time.process_time()
        while len(times) < 3 or sum(times) < seconds:
            begin = time.perf_counter()
            state, metrics = program(state, lengths, count)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - begin)
        worked = (time.process_time() - worked) / sum(times)
        per_step = statistics.median(times) / steps
        count_members = 1 if members is None else members
        memory = memory_of(program)
        return {
            "members": count_members,
            "ms_per_step": 1e3 * per_step,
            "member_steps_per_second": count_members / per_step,
            "compile_s": compile_seconds,
            "memory_mib": None if memory is None else memory / 2**20,
            "cores_busy": worked,
            "device_busy": busy_share(program, state, lengths, count, steps * per_step),
            "loss": float(np.asarray(metrics["loss"]).reshape(-1)[-1]),
        }


def busy_share(program: Any, state: Any, lengths: Any, count: Any, seconds: float) -> float | None:
    """Return the share of the time in which the device computes, or None if it has no events."""
    if jax.default_backend() == "cpu":
        return None

    holder = [state]

    def call() -> Any:
        # The state is donated, so each call continues with the state that the last one returned.
        holder[0], metrics = program(holder[0], lengths, count)
        return metrics

    measured = device_time(call, seconds=0.2, most=3)
    return measured.milliseconds / 1e3 / seconds if measured.method == "profiler" else None


def line(row: Row) -> str:
    """Format a row as a line."""
    busy = f"  cores busy {row['cores_busy']:.2f}"
    if row["device_busy"] is not None:
        busy += f"  device busy {row['device_busy']:.0%}"
    return (
        f"{row['implementation']}: {row['members']:4d} members  "
        f"{row['ms_per_step']:8.3f} ms a step  "
        f"{row['member_steps_per_second']:10.1f} member steps/s  compile "
        f"{row['compile_s']:.1f} s  memory {row['memory_mib'] or 0:.1f} MiB{busy}"
    )


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--implementations", nargs="+", default=["default"])
    parser.add_argument("--dim", type=int, default=2, help="transition dimension JT")
    parser.add_argument(
        "--dtype", default="float32", help="type to compute in; parameters are float32"
    )
    parser.add_argument("--name", help="name of the JSON (default: sweep_cpu or sweep_gpu)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50, help="steps in one program")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of timing per program")
    parser.add_argument(
        "--folder", default=None, help="where the JSON goes (default: benchmarks/results)"
    )
    parser.add_argument("--cpu-smoke", action="store_true", help="a tiny model, nothing written")
    options = parser.parse_args()
    tiny = options.cpu_smoke
    training = TrainingConfig(
        steps=10**6,
        batch_size=4 if tiny else options.batch_size,
        steps_per_dispatch=2 if tiny else options.steps,
        optimizer=OptimizerConfig(schedule="constant"),
        curriculum=Uniform(1, 8 if tiny else 40),
        solved=None,
    )
    rows, baselines = [], []
    for name in options.implementations:
        case = Case(model_config(8 if tiny else 64, options.dim, name), training, options.dtype)
        for members in [None, *([2] if tiny else options.members)]:
            row = {
                "implementation": name,
                "JT": options.dim,
                "dtype": options.dtype,
                **case.measure(members, 0.1 if tiny else options.seconds),
            }
            rows.append(row)
            baselines += [row] if members is None else []
            print(line(row), flush=True)
    alone = max(row["member_steps_per_second"] for row in baselines)
    for row in rows:
        row["ratio"] = row["member_steps_per_second"] / alone
        print(f"{row['implementation']}: {row['members']:4d} members  {row['ratio']:6.2f}x")
    if not tiny:
        folder = measure.RESULTS if options.folder is None else measure.Path(options.folder)
        about = {"batch_size": training.batch_size, "steps": options.steps}
        name = options.name or f"sweep_{jax.default_backend()}"
        print(measure.write(name, rows, folder, **about))


if __name__ == "__main__":
    main()
