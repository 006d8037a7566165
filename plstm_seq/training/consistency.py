"""The consistency term: transitions that multiply as the model's own answers say.

A model that tracks a group holds as far as its transitions are a representation of the group,
`T_c = T_b T_a` where the word a, b is the element c; a cross-entropy that is small already hardly
asks for that. The term does, and needs no rule of the task: which c that is, the model says.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from plstm_seq.layers.by_token import rows_at

PAIRS = 256
"""How many words of two tokens a step asks for: all where there are no more, else random ones."""
SURE = 0.5
"""An answer of a lower probability, the model's own, does not count."""


@runtime_checkable
class HasTransitionsByToken(Protocol):
    """A model of tokens whose transitions depend on the token alone, such as `SequenceModel`."""

    vocab_size: int

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T L"]:
        """The logits of the labels after each token."""
        ...

    def transitions_by_token(self) -> Float[Array, "V H JT JT"]:
        """The matrices of each token; `ValueError` where they depend on more than the token."""
        ...


class OwnProducts(NamedTuple):
    """What a model's own answers say that words of two tokens are.

    Attributes:
        first: [P], a of the word a, b.
        second: [P], b.
        product: [P], the token c that is answered as the word is.
        counted: [P], whether there is such a token, and the answers are sure.
    """

    first: Int[Array, " P"]
    second: Int[Array, " P"]
    product: Int[Array, " P"]
    counted: Bool[Array, " P"]


def check_consistency(model: Any, weight: float) -> None:
    """Refuse a model that cannot be trained with a consistency term of this weight.

    Raises:
        ValueError: it has no transitions, or they depend on more than the token.
    """
    if not weight:
        return
    if not isinstance(model, HasTransitionsByToken):
        raise ValueError(
            f"consistency: got {weight}, expected 0: {type(model).__name__} has no "
            "transitions_by_token"
        )
    try:
        nnx.eval_shape(lambda model: model.transitions_by_token(), model)
    except ValueError as error:
        raise ValueError(
            f"consistency: got {weight}, expected 0 for this model: {error}"
        ) from error


def own_products(model: HasTransitionsByToken, key: Array) -> OwnProducts:
    """Ask a model which token each word of two tokens is.

    That is the one token whose answer, read alone, is the answer at the end of the word. A word
    does not count where no token or more than one has that answer, or where the model gives one of
    the answers to a, to a, b and to c a probability of 0.5 or less. So labels have to name the
    state: where states share a label, the answers do not tell them apart.

    Args:
        model: see `HasTransitionsByToken`.
        key: typed key, for the pairs where there are more than 256.
    """
    tokens = jnp.arange(model.vocab_size)
    if model.vocab_size**2 <= PAIRS:
        first, second = (pair.ravel() for pair in jnp.meshgrid(tokens, tokens, indexing="ij"))
    else:
        first, second = jax.random.randint(key, (2, PAIRS), 0, model.vocab_size)
    of_token, token_is_sure = _answers(model, tokens[:, None])
    of_word, word_is_sure = _answers(model, jnp.stack([first, second], axis=1))
    same = of_word[:, 1:] == of_token[:, 0]
    product = same.argmax(1)
    sure = word_is_sure.all(1) & token_is_sure[product, 0]
    return OwnProducts(first, second, product, sure & (same.sum(1) == 1))


def _answers(model: HasTransitionsByToken, words: Array) -> tuple[Array, Array]:
    """The labels [B, T] that are answered, and whether each is sure."""
    logits = model(words)
    return logits.argmax(-1), jax.nn.softmax(logits, -1).max(-1) > SURE


def consistency_term(
    transitions: Float[Array, "V H JT JT"], products: OwnProducts
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Measure how far transitions are from multiplying as their tokens do.

    Args:
        transitions: of each token.
        products: what the tokens multiply to.

    Returns:
        The mean over counted words and over heads of the squared Frobenius norm
        `|T_c - T_b T_a|^2 / JT`, 0 where none counts; and the metrics `consistency` (the same),
        `counted_pairs` and `asked_pairs` (P).
    """
    first, second, product = (rows_at(transitions, tokens) for tokens in products[:3])
    after = jnp.einsum("phij,phjk->phik", second, first, precision=jax.lax.Precision.HIGHEST)
    defects = jnp.square(product - after).sum((-2, -1)).mean(-1) / transitions.shape[-1]
    counted = products.counted.sum(dtype=jnp.int32)
    mean = jnp.where(products.counted, defects, 0).sum() / jnp.maximum(counted, 1)
    asked = jnp.full_like(counted, len(products.counted))
    return mean, {"consistency": mean, "counted_pairs": counted, "asked_pairs": asked}
