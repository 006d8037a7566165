import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plstm_seq.training.optimizer import pack, unpack

SHAPES = st.sampled_from([(), (0, 2), (3,), (2, 3)])
LEAVES = st.lists(
    st.tuples(SHAPES, st.sampled_from(["float32", "bfloat16"]), st.booleans()), max_size=8
)


@settings(max_examples=20, deadline=None)
@given(LEAVES, st.integers(0, 2**31))
def test_unpack_inverts_pack_and_keeps_dtypes_apart(leaves, seed):
    rng = np.random.default_rng(seed)
    tree = {
        str(i): [jnp.asarray(rng.normal(size=shape), dtype)]
        for i, (shape, dtype, _) in enumerate(leaves)
    }
    chosen = {str(i): [choice] for i, (_, _, choice) in enumerate(leaves)}
    vectors = pack(tree, lambda _: chosen)
    assert len(vectors) == len({(dtype, choice) for _, dtype, choice in leaves})
    assert sum(vector.size for vector in vectors.values()) == sum(
        leaf.size for leaf in jax.tree.leaves(tree)
    )
    back = unpack(vectors, tree, lambda _: chosen)
    assert jax.tree.map(jax.typeof, back) == jax.tree.map(jax.typeof, tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
