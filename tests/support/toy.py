"""A small recurrent model and small tasks with the interfaces that training and evaluation use."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class ToyBatch(NamedTuple):
    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array


class ToyModel(nnx.Module):
    """h_t = tanh(gate[x_t]) h_{t-1}, and a head. Learns parity in about a hundred steps.

    Small on purpose: what these tests wait for is the compiler.
    """

    bounded_state = True

    def __init__(self, vocab_size=2, width=16, *, param_dtype=jnp.float32, rngs):
        options = {"param_dtype": param_dtype, "rngs": rngs}
        self.width = width
        self.embedding = nnx.Embed(
            vocab_size, width, embedding_init=nnx.initializers.normal(1.0), **options
        )
        self.initial_state = nnx.Param(jnp.ones((width,), param_dtype))
        self.head = nnx.Linear(width, vocab_size, **options)

    def init_state(self, batch_size):
        return jnp.broadcast_to(self.initial_state[...], (batch_size, self.width))

    def step(self, tokens, state):
        logits, state = self(tokens[:, None], initial_state=state, return_state=True)
        return logits[:, 0], state

    def __call__(self, tokens, *, initial_state=None, return_state=False):
        gate = jnp.moveaxis(jnp.tanh(self.embedding(tokens)), 1, 0)
        start = self.init_state(tokens.shape[0]) if initial_state is None else initial_state

        def advance(state, gate):
            state = gate * state
            return state, state

        state, states = jax.lax.scan(advance, start, gate)
        logits = self.head(jnp.moveaxis(states, 0, 1))
        return (logits, state) if return_state else logits


class FaultyParity(nnx.Module):
    """Knows the running parity and answers wrongly at up to 4 positions, counted from 0.

    Also at every position that `every` divides. Its state is exact, so what it gets right at any
    length is known without running it.
    """

    bounded_state = True

    def __init__(self, *wrong, every=None):
        self.wrong = nnx.Variable(jnp.array([*wrong, -1, -1, -1, -1][:4], jnp.int32))
        self.every = every

    def init_state(self, batch_size):
        return jnp.zeros((batch_size,), jnp.int32), jnp.zeros((), jnp.int32)

    def __call__(self, tokens, *, initial_state=None, return_state=False):
        parity, start = (jnp.int32(0), jnp.int32(0)) if initial_state is None else initial_state
        parities = (parity[..., None] + jnp.cumsum(tokens, axis=1, dtype=jnp.int32)) % 2
        positions = start + jnp.arange(tokens.shape[1], dtype=jnp.int32)
        wrong = (positions[:, None] == self.wrong[...]).any(-1)
        if self.every is not None:
            wrong |= positions % self.every == 0
        logits = jax.nn.one_hot(jnp.where(wrong, 1 - parities, parities), 2, dtype=jnp.float32)
        return (logits, (parities[:, -1], positions[-1] + 1)) if return_state else logits


class UnboundedParity(FaultyParity):
    """The same without a state to carry: attention would be like this."""

    bounded_state = False

    def init_state(self, batch_size):  # noqa: ARG002
        raise AssertionError("a model of unbounded state is asked for none")


def mask_of(lengths, batch, length):
    if lengths is None:
        return jnp.ones((batch, length), bool)
    return jnp.arange(length) < lengths[:, None]


class Parity:
    """Label at t: the parity of the first t + 1 bits."""

    def draw(self, key, batch, length):
        return (jax.random.bits(key, (batch, length), jnp.uint32) & 1).astype(jnp.int32)

    def start(self, batch):
        return jnp.zeros((batch,), jnp.int32)

    def advance(self, inputs, state):
        targets = (state[:, None] + jnp.cumsum(inputs, axis=1, dtype=jnp.int32)) % 2
        return targets, targets[:, -1]

    def sample(self, key, batch, length, *, lengths=None):
        inputs = self.draw(key, batch, length)
        targets, _ = self.advance(inputs, self.start(batch))
        return ToyBatch(inputs, targets, mask_of(lengths, batch, length))


class FinalParity(Parity):
    """Only the last real position is scored: no streaming."""

    def sample(self, key, batch, length, *, lengths=None):
        batch_ = super().sample(key, batch, length, lengths=lengths)
        inputs = jnp.where(batch_.mask, batch_.inputs, 0)
        last = jnp.arange(length) == batch_.mask.sum(-1, keepdims=True) - 1
        return ToyBatch(inputs, batch_.targets, last)
