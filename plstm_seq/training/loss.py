"""What training makes small: the loss over the scored positions, and the consistency term.

The consistency term asks for transitions that multiply as the model's own answers say. A model
that tracks a group holds as far as its transitions are a representation of the group,
`T_c = T_b T_a` where the word a, b is the element c; a cross-entropy that is small already hardly
asks for that. The term does, and needs no rule of the task: which c that is, the model says.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from plstm_seq.layers.by_token import rows_at

StepMetrics = dict[str, Array]
Loss = Literal["cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error"]
OF_LABELS: tuple[Loss, ...] = ("cross_entropy", "binary_cross_entropy")
OF_NUMBERS: tuple[Loss, ...] = ("squared_error", "absolute_error")


def score(
    logits: Float[Array, "B ... V"],
    targets: Int[Array, "B ..."] | Float[Array, "B ... V"],
    mask: Bool[Array, "B ..."],
    label_smoothing: float = 0.0,
    loss: Loss = "cross_entropy",
) -> tuple[Float[Array, ""], StepMetrics]:
    """The loss over the scored positions, and of labels what was right.

    Args:
        logits: [B, ..., V].
        targets: [B, ...], labels below V where `mask` is true; or [B, ..., V], the share of each.
            The largest share then is the right label. Of errors the numbers [B, ..., V].
        mask: [B, ...], the scored positions.
        label_smoothing: what is spread evenly over all labels instead of the right one alone; of
            no effect on errors.
        loss: "cross_entropy" of the softmax; "binary_cross_entropy" of the sigmoid of every
            label's logit with its share, the mean over labels; or "squared_error" or
            "absolute_error" of V numbers, the mean over them.

    Returns:
        The mean loss per scored position, entropies in nats, and the counts `correct_tokens`,
        `scored_tokens`, `correct_sequences` (examples of which all scored positions are right) and
        `scored_sequences` (one scored position or more); of errors `scored_tokens` alone.

    Raises:
        ValueError: the loss is an error, and targets are of another shape than `logits`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if loss in OF_NUMBERS:
        return _score_numbers(logits, targets, mask, loss)
    shares = None
    if jnp.issubdtype(targets.dtype, jnp.floating):
        shares = targets.astype(logits.dtype)
        targets = shares.argmax(-1)
    targets = jnp.where(mask, targets, 0)
    losses = _losses(logits, targets, shares, label_smoothing, loss)
    mean, scored = _mean(losses, mask)
    right = logits.argmax(-1) == targets
    inner = tuple(range(1, mask.ndim))
    counted = mask.any(inner)
    return mean, {
        "correct_tokens": (right & mask).sum(dtype=jnp.int32),
        "scored_tokens": scored,
        "correct_sequences": ((right | ~mask).all(inner) & counted).sum(dtype=jnp.int32),
        "scored_sequences": counted.sum(dtype=jnp.int32),
    }


def _score_numbers(
    outputs: Float[Array, "B ... V"],
    targets: Float[Array, "B ... V"],
    mask: Bool[Array, "B ..."],
    loss: Loss,
) -> tuple[Float[Array, ""], StepMetrics]:
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets: got shape {targets.shape}, expected {outputs.shape}, one for each output"
        )
    errors = outputs - targets.astype(outputs.dtype)
    errors = errors**2 if loss == "squared_error" else abs(errors)
    mean, scored = _mean(errors.mean(-1), mask)
    return mean, {"scored_tokens": scored}


def _mean(
    losses: Float[Array, "B ..."], mask: Bool[Array, "B ..."]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The mean over the scored positions, and how many those are."""
    scored = mask.sum(dtype=jnp.int32)
    return jnp.where(mask, losses, 0).sum() / jnp.maximum(scored, 1), scored


def _losses(
    logits: Float[Array, "B ... V"],
    targets: Int[Array, "B ..."],
    shares: Float[Array, "B ... V"] | None,
    label_smoothing: float,
    loss: Loss,
) -> Float[Array, "B ..."]:
    """The loss at every position, of labels or, where they are given, of shares."""
    if shares is None and loss == "cross_entropy":
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        if label_smoothing:
            right_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            losses += label_smoothing * (right_logit - logits.mean(-1))
        return losses
    labels = logits.shape[-1]
    if shares is None:
        shares = jax.nn.one_hot(targets, labels, dtype=logits.dtype)
    shares = (1 - label_smoothing) * shares + label_smoothing / labels
    if loss == "cross_entropy":
        return optax.softmax_cross_entropy(logits, shares)
    return optax.sigmoid_binary_cross_entropy(logits, shares).mean(-1)


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
