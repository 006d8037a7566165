"""The committed table of what runs where is what the implementations answer."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import support_table
from processes import ROOT
from support_table import DTYPES, GATES, SUBSTEPS, Call

from plstm_seq.ops import plstm_1d
from plstm_seq.ops.sequence import api, core_form


def test_the_committed_table_is_current():
    text, defects = support_table.document()
    assert (ROOT / "docs" / "support.md").read_text(encoding="utf-8") == text, (
        "make support-table writes it anew"
    )
    assert defects == []


def test_every_kernel_is_in_the_table():
    assert set(api.IMPLEMENTATIONS) - {"recurrent", "chunkwise"} <= set(support_table.KERNELS)


@pytest.mark.parametrize(("JK", "JQ"), list(itertools.product(SUBSTEPS, SUBSTEPS)))
def test_the_table_asks_for_the_core_form(JK, JQ):
    call = Call("float32", 3, 2, 5, JK, JQ)
    core = jax.eval_shape(core_form.expand_time, call.inputs())
    expected = dataclasses.replace(call.core(), T=call.T * (JQ + JK - 1)).inputs()
    assert jax.tree.map(jnp.shape, core) == jax.tree.map(jnp.shape, expected)


def covering(count=8):
    """Random calls in which every size of every letter and every type occurs."""
    draw = np.random.default_rng(0)
    columns = [
        draw.permutation(np.resize(values, count))
        for values in (range(len(DTYPES)), *[GATES] * 3, *[SUBSTEPS] * 2, (1, 2, 64, 256))
    ]
    for dtype, *gates, DK in zip(*columns, strict=True):
        yield Call(DTYPES[dtype], *map(int, gates), int(DK), DV=5, T=5, direct=bool(DK % 2))


@pytest.mark.parametrize("implementation", ["recurrent", "chunkwise"])
@pytest.mark.parametrize(
    "call", list(covering()), ids=lambda call: "_".join(map(str, vars(call).values()))
)
def test_xla_takes_everything(implementation, call):
    """Traced with its gradients, nothing computed."""

    def loss(inputs):
        return plstm_1d(*inputs, implementation=implementation).sum()

    gradients = jax.eval_shape(jax.grad(loss), call.inputs())
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, call.inputs())
