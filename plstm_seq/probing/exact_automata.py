"""Written weights for more than groups: linear forms, automata, modular arithmetic.

They prove what the model class can compute, whatever training finds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from plstm_seq.layers import ConvolutionConfig, HeadProjectionConfig
from plstm_seq.layers.arguments import require, require_choice
from plstm_seq.layers.initializers import Ones, Zeros
from plstm_seq.layers.transition import Factorized, Table, TransitionConfig
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.probing.exact import SURE, bare_config, write

_ONE = 4.0
"""An argument at which the eigenvalues' tanh is exactly 1, in float64 too."""
_PLANAR = (2, 3, 5, 7)
"""Moduli whose factors are rotations of the plane: for k units, 2 cos(2 pi / k) is an integer."""


class LinearForm(NamedTuple):
    """A linear recurrence by token, `C <- A[x] C + b[x]`, whose logits are `R[x] C`.

    Attributes:
        matrices: A [S, J, J].
        writes: b [S, J].
        initial: [J], the state C before the first token.
        reading: R [S, V, J]; the label is the largest logit.

    Example:
        Parity as one number that token 1 multiplies by -1; label 1 where it is negative.

        >>> import numpy as np
        >>> from plstm_seq.probing import LinearForm
        >>> form = LinearForm(
        ...     matrices=np.array([[[1.0]], [[-1.0]]]),
        ...     writes=np.zeros((2, 1)),
        ...     initial=np.ones(1),
        ...     reading=np.array([[[1.0], [-1.0]]] * 2),
        ... )
        >>> int((form.reading[1] @ form.matrices[1] @ form.initial).argmax())
        1
    """

    matrices: Float[np.ndarray, "S J J"]
    writes: Float[np.ndarray, "S J"]
    initial: Float[np.ndarray, " J"]
    reading: Float[np.ndarray, "S V J"]


def exact_linear(
    form: LinearForm,
    *,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    implementation: str | None = None,
) -> SequenceModel:
    """Write a model of one layer and one head that computes a linear form.

    Transitions are a table by token. Embeddings are unit vectors; source and mark are linear
    functions of them.

    Args:
        form: the linear form to compute; JT is its J.
        dtype: see `SequenceModel`.
        param_dtype: see `SequenceModel`.
        implementation: see `plstm_seq.ops.plstm_1d`.

    Returns:
        A model of S tokens and V labels.

    Raises:
        ValueError: the shapes do not fit each other.

    Example:
        The model of parity; see `LinearForm`.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import LinearForm, exact_linear
        >>> reading = np.array([[[1.0], [-1.0]]] * 2)
        >>> form = LinearForm(np.array([[[1.0]], [[-1.0]]]), np.zeros((2, 1)), np.ones(1), reading)
        >>> model = exact_linear(form, implementation="recurrent")
        >>> jax.jit(model)(jnp.array([[1, 0, 1, 1]])).argmax(-1).tolist()
        [[1, 1, 0, 1]]
    """
    matrices, writes, initial, reading = (np.asarray(part, np.float64) for part in form)
    tokens, size = len(matrices), initial.shape[-1]
    labels = reading.shape[1] if reading.ndim == 3 else 0
    expected = {
        "matrices": (matrices, (tokens, size, size)),
        "writes": (writes, (tokens, size)),
        "initial": (initial, (size,)),
        "reading": (reading, (tokens, labels, size)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape or 0 in shape:
            raise ValueError(
                f"{name}: got shape {array.shape}, expected [S, J, J], [S, J], [J] and [S, V, J] "
                "of matrices, writes, initial and reading"
            )
    model = SequenceModel(
        tokens,
        _config(tokens + labels, Table(dim=size, tokens=tokens), implementation, JO=labels),
        output_size=labels,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=nnx.Rngs(0),
    )
    layer: Any = model.blocks[0].mixer
    width = tokens + labels
    write(model.token_embedding.embedding, np.eye(tokens, width))
    write(layer.transition.embedding, matrices)
    write(layer.source.weight, np.pad(writes.T, ((0, 0), (0, labels))))
    write(layer.mark.weight, np.pad(np.moveaxis(reading, 0, -1), ((0, 0), (0, 0), (0, labels))))
    write(layer.initial_state, initial)
    write(layer.outprojection.kernel, np.eye(labels, width, tokens))
    write(model.lm_head, np.eye(width, labels, -tokens))
    return model


def automaton_form(
    transition: Int[np.ndarray, "N S"], outputs: Int[np.ndarray, " N"], initial: int = 0
) -> LinearForm:
    """Return the linear form of any automaton: its state is a unit vector for each state.

    A symbol that permutes the states is a permutation matrix. A symbol that leads all states to one
    is a reset: its transition is zero, and it writes. So transitions of permutation-reset automata
    have a norm of at most 1. A symbol that merges only some states is a matrix of zeros and ones
    with a larger norm, which is also exact on unit vectors.

    Args:
        transition: [states, symbols], the next state.
        outputs: [states], the label of each state.
        initial: the state before the first symbol.

    Raises:
        ValueError: a shape is wrong, or a number is not that of a state or a label.

    Example:
        A switch: symbol 0 turns it off, 1 on, and 2 leaves it.

        >>> import numpy as np
        >>> from plstm_seq.probing import automaton_form
        >>> form = automaton_form(np.array([[0, 1, 0], [0, 1, 1]]), np.array([0, 1]))
        >>> form.matrices.shape, form.writes.tolist()
        ((3, 2, 2), [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    """
    transition, outputs = np.asarray(transition), np.asarray(outputs)
    if transition.ndim != 2 or outputs.shape != transition.shape[:1]:
        raise ValueError(
            f"transition, outputs: got shapes {transition.shape} and {outputs.shape}, expected "
            "[states, symbols] and [states]"
        )
    states, symbols = transition.shape
    if transition.min() < 0 or transition.max() >= states or not 0 <= initial < states:
        raise ValueError(
            f"transition, initial: got states from {transition.min()} to {transition.max()} and "
            f"{initial}, expected states from 0 to {states - 1}"
        )
    require(outputs.min() >= 0, "outputs", outputs.min(), "labels from 0")
    units = np.eye(states)
    matrices = np.swapaxes(units[transition.T], -1, -2)  # column n: unit vector of n's next state
    resets = (transition == transition[:1]).all(0)
    writes = np.where(resets[:, None], units[transition[0]], 0)
    matrices = np.where(resets[:, None, None], 0, matrices)
    reading = SURE * (np.arange(outputs.max() + 1)[:, None] == outputs)
    return LinearForm(
        matrices, writes, units[initial], np.broadcast_to(reading, (symbols, *reading.shape))
    )


def exact_automaton(
    transition: Int[np.ndarray, "N S"],
    outputs: Int[np.ndarray, " N"],
    initial: int = 0,
    **options: Any,
) -> SequenceModel:
    """Write a model of one layer that runs an automaton; see `automaton_form` and `exact_linear`.

    Args:
        transition: [states, symbols], the next state.
        outputs: [states], the label of each state.
        initial: the state before the first symbol.
        **options: the options of `exact_linear`.

    Example:
        A switch: symbol 0 turns it off, 1 on, and 2 leaves it.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from plstm_seq.probing import exact_automaton
        >>> transition = np.array([[0, 1, 0], [0, 1, 1]])
        >>> model = exact_automaton(transition, np.array([0, 1]), implementation="recurrent")
        >>> jax.jit(model)(jnp.array([[2, 1, 2, 0]])).argmax(-1).tolist()
        [[0, 1, 1, 0]]
    """
    return exact_linear(automaton_form(transition, outputs, initial), **options)


def modular_arithmetic_form(modulus: int = 5, operators: str = "+-*") -> LinearForm:
    """Return the linear form of modular arithmetic with precedence; J = 2 m.

    It gives the value of every prefix. The state holds `exp(2 pi i (sum + j factor) / m)` for
    j = 0 .. m - 1; every token selects some of these complex numbers and rotates them. The value of
    the prefix is the phase of the number j = 1; after `+` and `-`, where a new factor begins, that
    of j = 0. The complex matrices have infinity-norm 1, but are no contractions.

    Args:
        modulus: m, at least 2.
        operators: some of `+-*`; the tokens are the digits 0 .. m - 1, then the operators.

    Raises:
        ValueError: an argument has another value than these.

    Example:
        The five digits and three operators.

        >>> from plstm_seq.probing import modular_arithmetic_form
        >>> modular_arithmetic_form(5).matrices.shape
        (8, 10, 10)
    """
    _check_arithmetic(modulus, operators)
    turn = np.exp(2j * np.pi / modulus)
    places = np.arange(modulus)
    tokens = [*map(str, places), *operators]
    matrices = np.zeros((len(tokens), modulus, modulus), complex)
    for token, matrix in zip(tokens, matrices, strict=True):
        if token == "*":
            matrix[places, places] = 1
        elif token in "+-":
            matrix[:, 1] = turn ** (places if token == "+" else -places)
        else:
            matrix[places, places * int(token) % modulus] = 1
    read = np.array([0 if token in "+-" else 1 for token in tokens])
    phases = _phases(modulus)
    reading = phases[None, :, :, None] * np.eye(modulus)[read][:, None, None, :]
    start = turn**places
    real, imaginary = np.real(matrices), np.imag(matrices)
    return LinearForm(
        np.block([[real, -imaginary], [imaginary, real]]),
        np.zeros((len(tokens), 2 * modulus)),
        np.concatenate([start.real, start.imag]),
        reading.reshape(len(tokens), modulus, 2 * modulus),
    )


def exact_modular_arithmetic(
    modulus: int = 5,
    operators: str = "+-*",
    *,
    blocks: int = 1,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    implementation: str | None = None,
) -> SequenceModel:
    """Write a model that computes the value of every prefix, modulo m and with precedence.

    With one block the model computes `modular_arithmetic_form`. With two it is a cascade. The state
    of the first block is the factor of the current term as a point of the plane: multiplication by
    a unit turns it, zero makes it zero, `+` and `-` write 1 and -1. The second block turns by
    1 / modulus of a turn for each unit by which the value changes. It reads the output of the first
    block at the token before, through a convolution of 2, because after `*` it has to take back
    the term so far.

    Args:
        modulus: m; with two blocks 2, 3, 5 or 7.
        operators: some of `+-*`; the tokens are the digits 0 .. m - 1, then the operators.
        blocks: 1 or 2.
        dtype: see `SequenceModel`.
        param_dtype: see `SequenceModel`.
        implementation: see `plstm_seq.ops.plstm_1d`.

    Raises:
        ValueError: an argument has another value than these.

    Example:
        `1 + 2 * 2` modulo 3, prefix by prefix; token 3 is `+`, token 4 `*`.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from plstm_seq.probing import exact_modular_arithmetic
        >>> model = exact_modular_arithmetic(3, "+*", implementation="recurrent")
        >>> jax.jit(model)(jnp.array([[1, 3, 2, 4, 2]])).argmax(-1).tolist()
        [[1, 1, 0, 0, 2]]
    """
    types = {"dtype": dtype, "param_dtype": param_dtype}
    if blocks == 1:
        form = modular_arithmetic_form(modulus, operators)
        return exact_linear(form, implementation=implementation, **types)
    require_choice("blocks", blocks, (1, 2))
    _check_arithmetic(modulus, operators)
    require(modulus in _PLANAR, "modulus", modulus, f"one of {_PLANAR} with two blocks")
    tokens = modulus + len(operators)
    # Features: the token; the term after a digit; the term after `*`; the value's two numbers.
    term, product, value, width = tokens, tokens + 1, tokens + 2, tokens + 4
    zeros = Zeros()
    transition = Factorized(dim=2, inproj_bias_init=zeros, outproj_bias_init=zeros)
    model = SequenceModel(
        tokens,
        _config(width, transition, implementation, JO=2, num_blocks=2),
        output_size=modulus,
        rngs=nnx.Rngs(0),
        **types,
    )
    mixers: list[Any] = [block.mixer for block in model.blocks]
    first, second = mixers
    write(model.token_embedding.embedding, np.eye(tokens, width))
    _write_factor(first, modulus, operators, width)
    write(first.outprojection.kernel, np.eye(2, width, term))
    write(first.conv.kernel, np.stack([np.zeros(width), np.ones(width)]))
    write(second.conv.kernel, np.stack([np.eye(width)[product], np.eye(width)[term]]))
    turn = np.zeros((2, 2, width))
    turn[1, 0, [term, product]] = 2 * np.pi / modulus * np.array([1, -1])
    write(second.transition.inproj_weight, turn)
    write(second.transition.eigenvalues_bias, np.full(2, _ONE))
    write(second.mark.bias, np.eye(2))
    write(second.initial_state, np.eye(2)[0])
    write(second.outprojection.kernel, np.eye(2, width, value))
    write(model.lm_head, np.pad(_phases(modulus).T, ((value, 0), (0, 0))))
    return model


def _write_factor(layer: Any, modulus: int, operators: str, width: int) -> None:
    """Write the first block of the cascade, whose state is the factor of the current term."""
    units = modulus - 1
    root = next(
        g for g in range(1, modulus) if len({g**k % modulus for k in range(units)}) == units
    )
    angle = 2 * np.pi / units
    # The term is a linear function of the point, modulo m: 1 at angle 0, the root after one turn.
    sine = np.sin(angle) if units > 2 else 0.0
    read = np.array([1, (root - np.cos(angle)) / sine if sine else 0])
    inproj, writes, mark = np.zeros((2, 2, width)), np.zeros((2, width)), np.zeros((2, 2, width))
    kept = np.zeros(width)
    for power in range(units):
        digit = pow(root, power, modulus)
        inproj[1, 0, digit], kept[digit] = power * angle, _ONE
    for token, operator in enumerate(operators, modulus):
        if operator == "*":
            kept[token] = _ONE
            mark[1, :, token] = read
        else:
            writes[0, token] = 1 if operator == "+" else -1
    mark[0, :, :modulus] = read[:, None]
    write(layer.transition.inproj_weight, inproj)
    write(layer.transition.eigenvalues_bias, np.zeros(2))
    write(layer.transition.eigenvalues_weight, np.stack([kept, kept]))
    write(layer.source.weight, writes)
    write(layer.mark.weight, mark)
    write(layer.initial_state, np.eye(2)[0])


def _phases(modulus: int) -> np.ndarray:
    """Return the weights [m, 2] that read a phase: the right label leads by at least `SURE`."""
    angles = 2 * np.pi * np.arange(modulus) / modulus
    scale = SURE / (1 - np.cos(2 * np.pi / modulus))
    return scale * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _check_arithmetic(modulus: int, operators: str) -> None:
    require(modulus >= 2, "modulus", modulus, "at least 2")
    once = 0 < len(set(operators)) == len(operators) and set(operators) <= set("+-*")
    require(once, "operators", operators, "some of '+-*', each once")


def _config(
    width: int,
    transition: TransitionConfig | Table,
    implementation: str | None,
    *,
    JO: int,
    num_blocks: int = 1,
) -> SequenceModelConfig:
    """Return the config for one head whose query, key and value are one feature, always 1."""
    cascade = num_blocks > 1
    return bare_config(
        width,
        num_blocks=num_blocks,
        DV=1,
        JO=JO,
        transition=transition,
        value=HeadProjectionConfig(bias_init=Ones(), weight_init=Zeros()),
        convolution=ConvolutionConfig(kernel_size=2) if cascade else None,
        convolution_inputs=("transition",) if cascade else (),
        implementation=implementation,
    )
