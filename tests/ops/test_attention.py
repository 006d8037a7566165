import jax
import jax.numpy as jnp
import numpy as np
from fast_compile import fast_jit
from golden import relative_error
from tolerances import AGREEMENT, GRADIENT_AGREEMENT

from plstm_seq.ops.attention import causal_attention


def test_blocks_agree_with_jax():
    """Seven queries behind two earlier keys, three at a time; the library takes float32 softmax."""
    rng = np.random.default_rng(0)
    query, key, value = (
        jnp.asarray(rng.normal(size=(2, length, 2, 3)), jnp.float32) for length in (7, 9, 9)
    )
    mask = jnp.arange(9) <= 2 + jnp.arange(7)[:, None]

    @fast_jit
    def both(*inputs):
        def loss(attention):
            return lambda *x: (jnp.sum(jnp.sin(attention(*x))), attention(*x))

        return [
            jax.grad(loss(attention), argnums=(0, 1, 2), has_aux=True)(*inputs)
            for attention in (
                lambda *x: causal_attention(*x, block_size=3),
                lambda *x: jax.nn.dot_product_attention(*x, mask=mask[None, None]),
            )
        ]

    (gradients, y), (expected_gradients, expected) = both(query, key, value)
    assert relative_error(y, expected) < AGREEMENT["float32"]
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(gradient, reference) < GRADIENT_AGREEMENT["float32"]
