"""Exported programs: any batch, any length where the op allows, run in a process without us."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import CASES
from fast_compile import fast_jit
from flax import nnx
from jax import export
from processes import run_script
from random_parameters import randomised

from plstm_seq.interop.export import (
    checksum_path,
    export_program,
    load_program,
    save_program,
    symbolic_input,
)
from plstm_seq.layers import PLSTM1DConfig
from plstm_seq.layers.transition import Diagonal
from plstm_seq.models import SequenceModel, SequenceModelConfig

# The process imports no library of ours, nor flax.
RUN = """
import pathlib, sys
import jax, jax.export, numpy as np
jax.config.update("jax_disable_most_optimizations", True)
program = jax.export.deserialize(bytearray(pathlib.Path({path!r}).read_bytes()))
inputs = np.load({inputs!r})
np.savez({outputs!r}, **{{name: program.call(inputs[name]) for name in inputs.files}})
assert not any(name.split(".")[0] in ("plstm_seq", "flax") for name in sys.modules)
"""


def model(implementation):
    mixer = PLSTM1DConfig(
        num_heads=2, transition=Diagonal(dim=4), convolution=None, implementation=implementation
    )
    config = SequenceModelConfig(width=8, mixer=mixer)
    return randomised(lambda: SequenceModel(5, config, rngs=nnx.Rngs(0)))


def test_a_fresh_process_runs_any_batch_and_length(tmp_path):
    made = model(None)
    program = export_program(made, symbolic_input("batch, length", jnp.int32))
    path, inputs, outputs = (tmp_path / name for name in ("model.bin", "in.npz", "out.npz"))
    save_program(program, path)
    rng = np.random.default_rng(0)
    tokens = {
        f"{batch}x{length}": rng.integers(0, 5, (batch, length), np.int32)
        for batch, length in ((3, 7), (2, 40))
    }
    np.savez(inputs, **tokens)
    run_script(RUN.format(path=str(path), inputs=str(inputs), outputs=str(outputs)))
    with np.load(outputs) as got:
        for name, array in tokens.items():
            expected = fast_jit(lambda tokens: made(tokens))(array)
            assert got[name].shape == expected.shape
            np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)


def test_a_program_is_saved_and_loaded(tmp_path):
    case = CASES["gate"]
    made = case.make()
    save_program(export_program(made, symbolic_input("b, 3, 8", jnp.float64)), tmp_path / "gate")
    np.testing.assert_allclose(
        load_program(tmp_path / "gate").call(case.inputs), made(case.inputs), rtol=1e-12
    )


def test_chunks_need_a_length_and_take_any_batch():
    made = model("chunkwise")
    with pytest.raises(NotImplementedError, match="a length that is a number"):
        export_program(made, symbolic_input("batch, length", jnp.int32))
    program = export_program(made, symbolic_input("batch, 6", jnp.int32))
    assert str(program.out_avals[0].shape[0]) == "batch"
    assert program.out_avals[0].shape[1:] == (6, 5)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("mixer")])
def test_every_mixer_takes_any_batch(name):
    program = export_program(CASES[name].make(), symbolic_input("batch, 3, 8", jnp.float64))
    assert str(program.out_avals[0].shape[0]) == "batch"


def test_a_program_for_another_platform():
    case = CASES["convolution"]
    shape = jax.ShapeDtypeStruct(case.inputs.shape, jnp.float32)
    assert export_program(case.make(), shape, platforms=["tpu"]).platforms == ("tpu",)


DAMAGED = ("flip", "cut", "empty", "foreign")


@pytest.mark.parametrize(
    ("how", "beside"),
    # Without its checksum a program of which a byte was changed may be another program.
    [*((how, True) for how in DAMAGED), *((how, False) for how in DAMAGED[1:])],
)
def test_a_damaged_program_is_refused(tmp_path, how, beside):
    path = tmp_path / "scale.stablehlo"
    save_program(export.export(jax.jit(lambda x: 2 * x))(jnp.ones(3)), path)
    np.testing.assert_array_equal(load_program(path).call(jnp.ones(3)), [2, 2, 2])
    if not beside:
        checksum_path(path).unlink()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = {"flip": data, "cut": data[:20], "empty": b"", "foreign": b"no program at all"}
    path.write_bytes(damaged[how])
    with pytest.raises(ValueError, match=r"scale\.stablehlo is"):
        load_program(path)
