"""Feeds symbols to a run one by one, and shows what it predicts after each."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.run import Run, as_run


class Decoded(NamedTuple):
    """What a run predicts after one symbol, and the right label.

    Attributes:
        symbol: the symbol that was read.
        prediction: the label that the model finds most probable.
        probability: the probability that the model gives it.
        label: the right label by the task's rule; None where the rule gives none, for instance
            inside an expression that is only evaluated at its end.

    Example:
        >>> from experiments import Decoded, decode
        >>> last: Decoded = decode("parity-1", "0110")[-1]  # a run, see `experiments.train`
        >>> last.symbol, last.prediction, last.label, last.probability > 0.9
        ('0', '0', '0', True)
    """

    symbol: str
    prediction: str
    probability: float
    label: str | None


def decode(run: Run | str | Path, text: str) -> list[Decoded]:
    """Feeds the symbols of a text to a run, token by token with carried state.

    Args:
        run: a trained run, or its folder or name.
        text: symbols of the task's vocabulary.

    Returns:
        One entry for each symbol.

    Raises:
        RunError: the run has no checkpoint.
        ValueError: the run does not read sequences, a symbol is not in the vocabulary, or the text
            is empty.

    Example:
        >>> from experiments import decode
        >>> entries = decode("parity-1", "1101")  # a run, see `experiments.train`
        >>> [(entry.symbol, entry.prediction) for entry in entries]
        [('1', '1'), ('1', '0'), ('0', '0'), ('1', '1')]
    """
    run = as_run(run)
    check_decodes(run)
    tokens = run.task.encode(text)
    if not len(tokens):
        raise ValueError(f"no symbols; the vocabulary is {' '.join(run.task.vocabulary)}")
    graphdef, parameters = nnx.split(run.model)
    predictions, probabilities = _predict(graphdef, parameters, jnp.asarray(tokens)[None])
    targets = run.task.targets(tokens[None])[0]
    labelled = run.task.per_token | run.task.scored(tokens[None])[0]
    return [
        Decoded(
            run.task.vocabulary[token],
            run.task.labels[int(predictions[t])],
            float(probabilities[t]),
            run.task.labels[int(targets[t])] if labelled[t] else None,
        )
        for t, token in enumerate(tokens)
    ]


def check_decodes(run: Run) -> None:
    """Refuses a run that does not read sequences.

    Raises:
        ValueError: the run reads images, grids or graphs.
    """
    if run.problem.axis != "length":
        raise ValueError(
            f"{run.name} reads no sequences: there are no symbols to decode; plstm-seq decode is "
            "for models of sequences"
        )


@jax.jit(static_argnums=0)
def _predict(graphdef: nnx.GraphDef, parameters: nnx.State, tokens: jax.Array):
    """Returns the most probable label after each of the tokens [1, T], and its probability."""
    model = nnx.merge(graphdef, parameters)
    if not model.bounded_state:  # a scan cannot carry a state that grows
        probabilities = jax.nn.softmax(model(tokens)[0])
        return probabilities.argmax(-1), probabilities.max(-1)

    def body(state, token):
        logits, state = model.step(token, state)
        return state, jax.nn.softmax(logits[0])

    _, probabilities = jax.lax.scan(body, model.init_state(1), tokens.T)
    return probabilities.argmax(-1), probabilities.max(-1)
