"""What a user can hand over wrongly, and what the error says."""

import jax
import jax.numpy as jnp
import op_2d
import pytest
from op_1d import make

from plstm_seq.ops import plstm_1d, plstm_1d_step, plstm_2d
from plstm_seq.ops.choice import OLD_NAMES, Implementation, table
from plstm_seq.ops.grid import api as grid
from plstm_seq.ops.sequence import api


def changed(**arrays):
    inputs, _ = make(6)
    return inputs._replace(**arrays)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(key=jnp.ones((2, 6, 4, 1))), r"key: got shape \(2, 6, 4, 1\).*DK = 5 from query"),
        (
            dict(value=jnp.ones((2, 7, 3, 4))),
            r"value: .*expected \[\*B, T, DV, JV\] = \(2, 6, 3, 4\)",
        ),
        (dict(source=jnp.ones((2, 6, 4, 1, 3))), "source: .*JV = 4 from value"),
        (dict(transition=jnp.ones((2, 6, 4, 3))), "transition: .*JT = 4"),
        (dict(mark=jnp.ones((2, 6, 4, 2, 4))), "mark: .*JQ = 1 from query"),
        (dict(direct=jnp.ones((3, 6, 4, 1, 1, 4))), r"direct: .*\*B = \(2,\) from query"),
        (dict(query=jnp.ones((5, 1))), "query: .*at least 3"),
        (dict(value=jnp.ones((2, 6, 0, 4))), "value: .*at least 1"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_wrong_shapes(wrong, message):
    with pytest.raises(ValueError, match=message):
        plstm_1d(*changed(**wrong))


def test_wrong_state():
    inputs, _ = make(6)
    with pytest.raises(ValueError, match=r"initial_state: .*expected \[\*B, DK, DV, JT\] = \(2, 5"):
        plstm_1d(*inputs, initial_state=jnp.ones((2, 3, 5, 4)))
    step = jax.tree.map(lambda x: x[:, 0], inputs)
    with pytest.raises(TypeError, match="state: got None"):
        plstm_1d_step(*step, state=None)
    with pytest.raises(ValueError, match="state: got shape"):
        plstm_1d_step(*step, state=jnp.ones((2, 3, 5, 4)))


@pytest.mark.parametrize("wrong", [jnp.ones((2, 6, 5, 1), jnp.int32), [1.0], None])
def test_wrong_types(wrong):
    with pytest.raises(TypeError, match="query: got"):
        plstm_1d(*changed(query=wrong))


def test_wrong_options():
    inputs, _ = make(6)
    with pytest.raises(
        ValueError, match=r"implementation: got 'fast', expected one of .*chunkwise, recurrent"
    ):
        plstm_1d(*inputs, implementation="fast")
    with pytest.raises(ValueError, match="chunk_size: got 12, expected a power of two"):
        plstm_1d(*inputs, chunk_size=12)
    with pytest.raises(NotImplementedError, match="no chunks"):
        plstm_1d(*inputs, chunk_size=4, implementation="recurrent")


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old in OLD_NAMES for new in OLD_NAMES[old]]
)
def test_old_names_of_implementations_still_work(monkeypatch, old, new):
    """In every op that has one of this name; here all stand for the recurrence."""

    def op(name):
        if new in grid.IMPLEMENTATIONS:
            inputs = op_2d.make(2, 2, "J1", batch=())[0]
            return plstm_2d(*inputs, implementation=name)
        return plstm_1d(*make(3)[0], implementation=name)

    for module in (api, grid):
        if new in module.IMPLEMENTATIONS:
            truth = module.IMPLEMENTATIONS["recurrent"]
            monkeypatch.setitem(module.IMPLEMENTATIONS, new, truth)
    assert jnp.array_equal(op(old), op("recurrent"))


def test_when_all_decline_every_reason_is_given(monkeypatch):
    def decline(*_, **__):
        raise NotImplementedError("not today")

    declining = table(Implementation("one", decline), Implementation("two", decline))
    monkeypatch.setattr(api, "IMPLEMENTATIONS", declining)
    with pytest.raises(ExceptionGroup) as caught:
        plstm_1d(*make(6)[0])
    assert [str(e) for e in caught.value.exceptions] == ["one: not today", "two: not today"]
