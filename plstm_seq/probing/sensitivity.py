"""Which positions of the input the last output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Bool, Float, Int

from plstm_seq.models import SequenceModel


@dataclass(frozen=True)
class Sensitivity:
    """How the last output depends on each position.

    Attributes:
        gradient: [B, T], the Frobenius norm of the derivative of the last logits with respect to
            the embedding at a position. Dependence through transitions that are a table by token is
            left out.
        changed: [B, T], whether the last prediction changes when the symbol at a position is
            replaced by another one.
    """

    gradient: Float[np.ndarray, "B T"]
    changed: Bool[np.ndarray, "B T"]


def sensitivity(model: SequenceModel, tokens: Int[Array, "B T"], *, key: Array) -> Sensitivity:
    """Differentiate with respect to the input, and replace its symbols one at a time.

    A model that tracks a word problem changes its answer with every symbol: `changed` is true
    everywhere. For a model that forgets, it is true only near the end.

    Args:
        model: any model; it runs on B T sequences at once.
        tokens: [B, T].
        key: typed key to draw the replacements: any other symbol with equal probability.

    Raises:
        ValueError: the model has only one symbol.

    Example:
        A sum modulo 3 changes with every symbol, also with the first.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_model, faithful_representation
        >>> from plstm_seq.probing import Sensitivity, sensitivity
        >>> table = np.add.outer(range(3), range(3)) % 3
        >>> matrices = faithful_representation(table)
        >>> model = exact_model(matrices, range(3), implementation="recurrent")
        >>> tokens = jnp.array([[1, 2, 0, 1]])
        >>> found: Sensitivity = sensitivity(model, tokens, key=jax.random.key(0))
        >>> found.changed.tolist(), found.gradient.shape
        ([[True, True, True, True]], (1, 4))
    """
    if model.vocab_size < 2:
        raise ValueError("model: got one of a single symbol, expected two or more")
    tokens = jnp.asarray(tokens)
    graphdef, variables = nnx.split(model)
    gradient, changed = jax.device_get(_sensitivity(graphdef, variables, tokens, key))
    return Sensitivity(gradient, changed)


@partial(jax.jit, static_argnums=0)
def _sensitivity(
    graphdef: nnx.GraphDef[Any], variables: Any, tokens: Array, key: Array
) -> tuple[Array, Array]:
    model: SequenceModel = nnx.merge(graphdef, variables)
    batch, length = tokens.shape

    def last(x: Array) -> Array:
        return model.from_embeddings(x, tokens)[:, -1]

    logits, pull = jax.vjp(last, model.token_embedding(tokens))

    def squares(total: Array, label: Array) -> tuple[Array, None]:
        (gradient,) = pull(jnp.zeros_like(logits).at[:, label].set(1))
        return total + jnp.square(gradient.astype(jnp.float32)).sum(-1), None

    labels = jnp.arange(logits.shape[-1])
    total, _ = jax.lax.scan(squares, jnp.zeros((batch, length), jnp.float32), labels)
    other = jax.random.randint(key, tokens.shape, 1, model.vocab_size)
    replaced = jnp.where(jnp.eye(length, dtype=bool), (tokens + other)[:, None], tokens[:, None])
    read: Any = model(replaced.reshape(-1, length) % model.vocab_size)
    answers = read[:, -1].argmax(-1)
    return jnp.sqrt(total), answers.reshape(batch, length) != logits.argmax(-1)[:, None]
