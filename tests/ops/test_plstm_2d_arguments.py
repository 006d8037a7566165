"""What a user can hand over wrongly, and what the error says."""

import jax.numpy as jnp
import pytest
from op_2d import apply, make

from plstm_seq.ops.choice import Implementation, table
from plstm_seq.ops.grid import api


def changed(**arrays):
    return make(4, 5)[0]._replace(**arrays)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            dict(key=jnp.ones((2, 4, 5, 2, 1))),
            r"key: got shape \(2, 4, 5, 2, 1\).*DK = 3 from query",
        ),
        (
            dict(value=jnp.ones((2, 5, 4, 2, 2))),
            r"value: .*\[\*B, X, Y, DV, JV\] = \(2, 4, 5, 2, 2\)",
        ),
        (dict(source_down=jnp.ones((2, 4, 5, 2, 1, 3))), "source_down: .*JV = 2 from value"),
        (
            dict(transition_dl=jnp.ones((2, 4, 5, 1, 1))),
            "transition_dl: .*JT = 2 from source_right",
        ),
        (dict(mark_up=jnp.ones((2, 4, 5, 1, 1, 2))), "mark_up: .*JO = 2 from mark_left"),
        (dict(direct=jnp.ones((3, 4, 5, 2, 1, 1, 2))), r"direct: .*\*B = \(2,\) from query"),
        (dict(query=jnp.ones((5, 1))), "query: .*at least 4"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_wrong_shapes(wrong, message):
    with pytest.raises(ValueError, match=message):
        apply(changed(**wrong))


def test_wrong_states():
    inputs, initial = make(4, 5)
    with pytest.raises(
        ValueError, match=r"initial_left: .*\[\*B, Y, DK, DV, JT\] = \(2, 5, 3, 2, 2"
    ):
        apply(inputs, (initial.down, None))
    with pytest.raises(ValueError, match="initial_top: got shape"):
        apply(inputs, (None, initial.across))


@pytest.mark.parametrize("wrong", [jnp.ones((2, 4, 5, 3, 1), jnp.int32), [1.0], None])
def test_wrong_types(wrong):
    with pytest.raises(TypeError, match="query: got"):
        apply(changed(query=wrong))


def test_a_missing_transition_that_is_no_turn():
    with pytest.raises(TypeError, match="transition_rl: got None"):
        apply(changed(transition_rl=None))


def test_wrong_implementation():
    with pytest.raises(
        ValueError,
        match=r"implementation: got 'fast', expected one of .*parallel, chunkwise, recurrent",
    ):
        apply(make(2, 2)[0], implementation="fast")


def test_when_all_decline_every_reason_is_given(monkeypatch):
    def decline(*_, **__):
        raise NotImplementedError("not today")

    declining = table(Implementation("one", decline), Implementation("two", decline))
    monkeypatch.setattr(api, "IMPLEMENTATIONS", declining)
    with pytest.raises(ExceptionGroup) as caught:
        apply(make(2, 2)[0])
    assert [str(e) for e in caught.value.exceptions] == ["one: not today", "two: not today"]
    with pytest.raises(NotImplementedError, match="not today"):
        apply(make(2, 2)[0], implementation="two")
