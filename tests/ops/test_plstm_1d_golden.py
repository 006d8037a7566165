"""The published operation's arrays: outputs, last states and all gradients, in float64."""

import jax
import jax.numpy as jnp
import pytest
from fast_compile import fast_jit
from golden import golden_files, load, record, relative_error

from plstm_seq.ops import plstm_1d

ORDER = ("Q", "K", "V", "S", "T", "M", "D")


@pytest.mark.parametrize(
    "options",
    [dict(implementation="recurrent"), dict(implementation="chunkwise", chunk_size=8)],
    ids=lambda options: options["implementation"],
)
@pytest.mark.parametrize("path", golden_files("op1d"), ids=lambda path: path.stem)
def test_agrees_with_the_published_operation(path, options):
    golden = load(path)
    arrays = {name: jnp.asarray(array, jnp.float64) for name, array in golden.inputs.items()}
    cotangents = {k: jnp.asarray(v, jnp.float64) for k, v in golden.cotangents.items()}

    def function(arrays):
        output, state = plstm_1d(
            *(arrays.get(name) for name in ORDER),
            initial_state=arrays.get("C_initial"),
            scale=golden.meta["QK_scale"],
            **options,
            return_state=True,
        )
        results = {"y": output, "C_last": state}
        return sum(jnp.sum(results[k] * c) for k, c in cotangents.items()), results

    gradients, results = fast_jit(jax.grad(function, has_aux=True))(arrays)
    errors = {name: relative_error(results[name], x) for name, x in golden.outputs64.items()}
    assert golden.grads64, "the file has gradients"
    for name, expected in golden.grads64.items():
        errors[f"gradient of {name}"] = relative_error(gradients[name], expected)
    record(golden.name, options["implementation"], errors)
    assert {name: error for name, error in errors.items() if not error < 1e-13} == {}
