"""The kernels for Hopper GPUs: compiled where there is one, else interpreted where jax can."""

import jax
import pytest

from plstm_seq.ops.sequence.kernel import implementation_of
from plstm_seq.ops.sequence.pallas_gpu import VERSION, PallasGPU

FORMS = {
    "compiled": implementation_of(PallasGPU()),
    "interpreted": implementation_of(PallasGPU(interpret=True)),
}
needs_interpreter = pytest.mark.skipif(
    jax.__version_info__ < VERSION or jax.default_backend() != "cpu",
    reason="jax 0.11.2 or newer interprets the GPU kernels, on a CPU",
)
FORM = pytest.mark.parametrize(
    "form",
    [
        pytest.param("compiled", marks=pytest.mark.gpu),
        pytest.param("interpreted", marks=needs_interpreter),
    ],
)
