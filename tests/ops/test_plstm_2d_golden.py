"""The published 2D operation's arrays: outputs, last states and all gradients, in float64."""

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import golden_files, load, record, relative_error
from op_2d import PORTABLE

from plstm_seq.ops import plstm_2d, plstm_2d_oriented

ORDER = ("Q", "K", "V", "S_r", "S_d", "T_rl", "T_du", "T_dl", "T_ru", "M_l", "M_u", "D")


def without_blocks(state):
    """[N, blocks, cells, DK, DV, JT], blocks of the published levels -> [N, cells, DK, DV, JT]."""
    return state.reshape(state.shape[0], -1, *state.shape[3:])


def one_orientation(arrays, golden, implementation):
    initial = {
        name: without_blocks(arrays[key]) if key in arrays else None
        for name, key in (("initial_left", "C_initial_left"), ("initial_top", "C_initial_top"))
    }
    output, states = plstm_2d(
        *(arrays.get(name) for name in ORDER),
        **initial,
        scale=golden.meta["QK_scale"],
        implementation=implementation,
        return_state=True,
    )
    results = {"y": output}
    for name, state in zip(("C_last_right", "C_last_down"), states, strict=True):
        if name in golden.outputs64:
            # The published states begin with a block of zeros more (defect 25).
            blocks, cells = golden.outputs64[name].shape[1:3]
            state = state.reshape(state.shape[0], blocks - 1, cells, *state.shape[2:])
            results[name] = jnp.pad(state, ((0, 0), (1, 0), *[(0, 0)] * 4))
    return results


def four_orientations(arrays, golden, implementation):
    """The published grid is that of the gates; smaller inputs are padded."""
    X, Y = arrays["Q"].shape[1:3]
    size = golden.meta["grid"]
    vectors = [
        jnp.pad(arrays[name], ((0, 0), (0, size - X), (0, size - Y), (0, 0), (0, 0)))
        for name in ORDER[:3]
    ]
    gates = (arrays.get(name) for name in ORDER[3:])
    output = plstm_2d_oriented(*vectors, *gates, implementation=implementation)
    return {"y": output[:, :X, :Y]}


def cases():
    """Every file by `recurrent` and `parallel`; P-mode with states by `chunkwise` as well."""
    for path in golden_files("op2d_", "op2dfused_"):
        for implementation in PORTABLE:
            if implementation != "chunkwise" or ("_P_" in path.stem and "Cinit" in path.stem):
                yield pytest.param(path, implementation, id=f"{path.stem}-{implementation}")


@pytest.mark.parametrize(("path", "implementation"), list(cases()))
def test_agrees_with_the_published_operation(path, implementation):
    golden = load(path)
    run = four_orientations if path.stem.startswith("op2dfused") else one_orientation
    arrays = {name: jnp.asarray(array, jnp.float64) for name, array in golden.inputs.items()}
    cotangents = {k: jnp.asarray(v, jnp.float64) for k, v in golden.cotangents.items()}

    def function(arrays):
        results = run(arrays, golden, implementation)
        return sum(jnp.sum(results[k] * c) for k, c in cotangents.items()), results

    gradients, results = fast_jit(jax.grad(function, has_aux=True))(arrays)
    errors = {name: relative_error(results[name], x) for name, x in golden.outputs64.items()}
    assert golden.grads64, "the file has gradients"
    for name, expected in golden.grads64.items():
        errors[f"gradient of {name}"] = relative_error(gradients[name], expected)
    record(golden.name, implementation, errors)
    assert {name: error for name, error in errors.items() if not error < 1e-13} == {}
