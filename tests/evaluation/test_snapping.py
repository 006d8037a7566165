import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from plstm_seq.evaluation import (
    Snapped,
    Stream,
    learn_prototypes,
    length_generalization,
)

ORDER, ERROR = 5, 0.01
TASK = tasks.get("z5_word_problem")
STREAM = Stream(TASK.draw, TASK.start, TASK.advance, TASK.period)
KEY = jax.random.key(0)


class Rotations(nnx.Module):
    """Z5 by rotations that are a little off: symbol x turns by (1 + ERROR) x 72 degrees."""

    bounded_state = True

    def __init__(self):
        self.angle = nnx.Param(jnp.float32(2 * np.pi / ORDER * (1 + ERROR)))

    def init_state(self, batch_size):
        return {
            "angle": jnp.zeros((batch_size,)),
            "position": jnp.zeros((batch_size,), jnp.int32),
            "convolution": jnp.zeros((batch_size, 1)),
        }

    def __call__(self, inputs, *, initial_state, return_state=True):  # noqa: ARG002
        angles = initial_state["angle"][:, None] + jnp.cumsum(inputs * self.angle[...], axis=1)
        exact = 2 * jnp.pi / ORDER * jnp.arange(ORDER)
        state = {
            "angle": angles[:, -1],
            "position": initial_state["position"] + inputs.shape[1],
            "convolution": inputs[:, -1:].astype(jnp.float32),
        }
        return jnp.cos(angles[..., None] - exact), state


class Circle(Rotations):
    """The same, its state a point, so that states of a label are close to each other."""

    def init_state(self, batch_size):
        state = super().init_state(batch_size)
        return state | {"angle": jnp.tile(jnp.array([1.0, 0.0]), (batch_size, 1))}

    def __call__(self, inputs, *, initial_state, return_state=True):  # noqa: ARG002
        point = initial_state["angle"]
        start = initial_state | {"angle": jnp.arctan2(point[:, 1], point[:, 0])}
        logits, state = super().__call__(inputs, initial_state=start)
        angle = state["angle"]
        return logits, state | {"angle": jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)}


def prototypes(length=4):
    return learn_prototypes(
        Circle(), TASK.sample, key=KEY, length=length, num_sequences=256, batch_size=64
    )


def test_prototypes_are_the_states_of_the_labels():
    states, known = prototypes()
    assert known.all()
    exact = 2 * np.pi / ORDER * np.arange(ORDER)
    expected = np.stack([np.cos(exact), np.sin(exact)], -1)
    np.testing.assert_allclose(states["angle"], expected, atol=0.2)


def test_snapping_stops_errors_from_adding_up():
    def accuracy(model, chunk_size):
        result = length_generalization(
            model, STREAM, [512], chance=0.2, key=KEY, num_sequences=16, chunk_size=chunk_size
        )
        return result.row("token", 512).value

    assert accuracy(Circle(), 4) < 0.5
    assert accuracy(Snapped(Circle(), prototypes()), 4) == 1.0


def test_counts_and_remembered_inputs_stay_and_unseen_labels_are_not_snapped():
    known = prototypes()
    nothing = known._replace(known=jnp.zeros((ORDER,), bool))
    inputs = jnp.array([[1, 2, 3]])
    start = Circle().init_state(1)
    _, free = Circle()(inputs, initial_state=start)
    _, snapped = Snapped(Circle(), known)(inputs, initial_state=start, return_state=True)
    _, unseen = Snapped(Circle(), nothing)(inputs, initial_state=start, return_state=True)
    assert snapped["position"] == 3
    assert snapped["convolution"] == 3.0
    assert (snapped["angle"] != free["angle"]).all()
    jax.tree.map(np.testing.assert_array_equal, unseen, free)


def test_a_state_that_grows_is_refused():
    class Growing(Circle):
        bounded_state = False

    with pytest.raises(ValueError, match="bounded"):
        learn_prototypes(Growing(), TASK.sample, key=KEY, length=4, num_sequences=8)
