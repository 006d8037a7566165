"""Compiles the TPU kernel with the TPU's own compiler, where there is no TPU.

PYTHONPATH=. JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python tests/support/tpu_compile.py v5e

for an interpreter that has libtpu (`make test` sets one up). Writes a line of JSON for every case:
the program computes outputs, the last state and all gradients; `temporary` is the memory it needs
besides arguments and results, `forward_temporary` that of a program without gradients.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence.inputs import Inputs

# type, chunk size, N, T, DK, DV, JT, JV, JO, JK, JQ, direct
CASES = {
    "J4_bf16": ("bfloat16", None, 64, 2048, 64, 16, 4, 4, 4, 1, 1, True),
    "J4_fp32": ("float32", None, 8, 512, 64, 16, 4, 4, 4, 1, 1, True),
    "J4_chunks_of_256_bf16": ("bfloat16", 256, 8, 512, 64, 16, 4, 4, 4, 1, 1, True),
    "J4_largest_bf16": ("bfloat16", None, 8, 256, 256, 64, 4, 4, 4, 1, 1, True),
    "J4_largest_fp32": ("float32", None, 8, 256, 256, 64, 4, 4, 4, 1, 1, True),
    "J1_largest_bf16": ("bfloat16", None, 8, 256, 256, 256, 1, 1, 1, 1, 1, True),
    "J1_largest_fp32": ("float32", None, 8, 256, 256, 256, 1, 1, 1, 1, 1, False),
    "J8_largest_bf16": ("bfloat16", None, 8, 256, 256, 32, 8, 8, 8, 1, 1, True),
    "J8_largest_fp32": ("float32", None, 8, 256, 256, 32, 8, 8, 8, 1, 1, True),
    "J5_small_fp32": ("float32", None, 16, 512, 2, 5, 5, 5, 5, 1, 1, False),
    "J5_small_bf16": ("bfloat16", None, 16, 512, 2, 5, 5, 5, 5, 1, 1, True),
    "JT8_JV1_JO2_bf16": ("bfloat16", None, 3, 256, 64, 16, 8, 1, 2, 1, 1, False),
    "JT1_JV8_JO3_fp32": ("float32", None, 1, 256, 64, 256, 1, 8, 3, 1, 1, True),
    "JT3_JK2_JQ2_tiles_bf16": ("bfloat16", None, 2, 100, 300, 7, 3, 2, 2, 2, 2, True),
}
FORWARD = ("J4_bf16",)


def arguments(dtype, chunk, N, T, DK, DV, JT, JV, JO, JK, JQ, direct):
    def shape(*sizes):
        return jax.ShapeDtypeStruct((N, *sizes), dtype)

    inputs = Inputs(
        query=shape(T, DK, JQ),
        key=shape(T, DK, JK),
        value=shape(T, DV, JV),
        source=shape(T, JT, JK, JV),
        transition=shape(T, JT, JT),
        mark=shape(T, JO, JQ, JT),
        direct=shape(T, JO, JQ, JK, JV) if direct else None,
    )
    return inputs, jax.ShapeDtypeStruct((N, DK, DV, JT), jnp.float32)


def temporary(function, shapes, device):
    sharding = SingleDeviceSharding(device)
    jitted = jax.jit(function, in_shardings=sharding, out_shardings=sharding)
    return jitted.lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def compile_case(case, device, *, forward):
    chunk, inputs, state = CASES[case][1], *arguments(*CASES[case])

    def run(inputs, state):
        options = dict(implementation="mosaic_tpu", chunk_size=chunk, return_state=True)
        return plstm_1d(*inputs, initial_state=state, **options)

    def gradients(inputs, state, cotangents):
        results, transpose = jax.vjp(run, inputs, state)
        return results, transpose(cotangents)

    begin = time.perf_counter()
    results = jax.eval_shape(run, inputs, state)
    record = {"case": case, "temporary": temporary(gradients, (inputs, state, results), device)}
    if forward:
        record["forward_temporary"] = temporary(run, (inputs, state), device)
    return {**record, "seconds": round(time.perf_counter() - begin, 1)}


def compile_for_four(devices):
    """Inside `shard_map`, the batch over all devices; what it says of communication."""
    mesh, spec = jax.sharding.Mesh(devices, ("data",)), jax.sharding.PartitionSpec("data")

    def loss(inputs, state):
        options = dict(implementation="mosaic_tpu", return_state=True)
        output, last = plstm_1d(*inputs, initial_state=state, scale=0.5, **options)
        return jnp.sum(output**2) + jnp.sum(last)

    gradient = jax.shard_map(
        jax.grad(loss, argnums=(0, 1)), mesh=mesh, in_specs=spec, out_specs=spec
    )
    shapes = arguments("float32", None, 16, 256, 16, 8, 2, 2, 2, 1, 1, True)
    text = jax.jit(gradient).lower(*shapes).compile().as_text()
    words = ("all-gather", "all-to-all", "all-reduce", "collective-permute")
    return {"case": "shard_map", "collectives": [word for word in words if word in text]}


def main():
    topology = topologies.get_topology_desc(platform="tpu", topology_name=f"{sys.argv[1]}:2x2")
    for case in sys.argv[2:] or CASES:
        record = compile_case(case, topology.devices[0], forward=case in FORWARD)
        print(json.dumps(record), flush=True)
    if not sys.argv[2:]:
        print(json.dumps(compile_for_four(topology.devices)), flush=True)


if __name__ == "__main__":
    main()
