"""Every mixer against its formula, written as plain loops in numpy, or against flax."""

import dataclasses

import numpy as np
import pytest
from fast_compile import fast_jit
from flax import nnx
from golden import relative_error
from small_mixers import WIDTH, B, T, mixer_inputs, small_mixer
from tolerances import AGREEMENT

from plstm_seq.layers.mixers import (
    AttentionConfig,
    DeltaNetConfig,
    DiagonalConfig,
    GatedLinearAttentionConfig,
    GRUConfig,
    LSTMConfig,
    PDConfig,
    RNNConfig,
    SliceConfig,
)

H = 2
X = np.asarray(mixer_inputs())


@fast_jit
def run(mixer, x):
    return mixer(x)


def check(mixer, read: np.ndarray) -> None:
    """Compare a mixer's output with what its loop read [B, T, inner]."""
    expected = linear(mixer.outprojection, read)
    assert relative_error(run(mixer, X), expected) < AGREEMENT["float64"]


def linear(module, x: np.ndarray) -> np.ndarray:
    y = x @ np.asarray(module.kernel[...])
    return y if module.bias is None else y + np.asarray(module.bias[...])


def heads(x: np.ndarray, *axes: int) -> np.ndarray:
    return x.reshape(B, T, H, *axes)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def read_out(mixer, y: np.ndarray, num_heads: int = 1) -> np.ndarray:
    """`norm(y) * silu(gate(x))`."""
    y = y.reshape(B, T, num_heads, -1)
    y = y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + 1e-5)
    y = y.reshape(B, T, -1) * np.asarray(mixer.readout.norm.norm.scale[...]).reshape(-1)
    return y if mixer.readout.gate is None else y * silu(linear(mixer.readout.gate, X))


@pytest.mark.parametrize("config", [LSTMConfig(), GRUConfig(hidden_dim=5), RNNConfig()])
def test_cells_run_as_in_flax(config):
    mixer = small_mixer(config)
    start = mixer.init_state(B).memory
    expected = fast_jit(lambda rnn, x: rnn(x, initial_carry=start))(nnx.RNN(mixer.cell), X)
    check(mixer, np.asarray(expected))


@pytest.mark.parametrize("position", ["rope", "none"])
def test_attention(position):
    mixer = small_mixer(AttentionConfig(num_heads=H, position=position, rope_base=100.0))
    D = WIDTH // H
    query, key, value = (
        heads(linear(part, X), D) for part in (mixer.query, mixer.key, mixer.value)
    )
    if position == "rope":
        # Pairs (i, i + D / 2) as complex numbers, turned by their angle.
        angles = np.arange(T)[:, None] * 100.0 ** (-2 * np.arange(D // 2) / D)
        turns = np.exp(1j * angles)[None, :, None]

        def turned(x):
            z = (x[..., : D // 2] + 1j * x[..., D // 2 :]) * turns
            return np.concatenate([z.real, z.imag], axis=-1)

        query, key = turned(query), turned(key)
    y = np.zeros((B, T, H, D))
    for t in range(T):
        scores = np.einsum("bhd,bshd->bhs", query[:, t], key[:, : t + 1]) / np.sqrt(D)
        y[:, t] = np.einsum("bhs,bshd->bhd", softmax(scores), value[:, : t + 1])
    check(mixer, y.reshape(B, T, -1))


@pytest.mark.parametrize("entries", ["positive", "signed", "complex"])
def test_diagonal(entries):
    config = DiagonalConfig(entries=entries, state_dim=5, eigenvalue_factor=3.0)
    mixer = small_mixer(config)
    e = 3.0 * linear(mixer.eigenvalue, X)
    decay = np.tanh(e) if entries == "signed" else sigmoid(e)
    value = linear(mixer.value, X)
    if entries == "complex":
        decay = decay * np.exp(1j * linear(mixer.phase, X))
        value = value[..., :5] + 1j * value[..., 5:]
    drive = sigmoid(linear(mixer.input_gate, X)) * value
    state, states = np.zeros((B, 5), decay.dtype), []
    for t in range(T):
        state = decay[:, t] * state + drive[:, t]
        states.append(state)
    y = np.stack(states, axis=1)
    y = np.concatenate([y.real, y.imag], axis=-1) if entries == "complex" else y
    check(mixer, read_out(mixer, y))


def test_gated_linear_attention():
    config = GatedLinearAttentionConfig(num_heads=H, gate_rank=3, gate_temperature=4.0)
    mixer = small_mixer(config)
    D = WIDTH // H
    query, key, value, gate = (
        heads(x, D)
        for x in (
            linear(mixer.query, X),
            linear(mixer.key, X),
            linear(mixer.value, X),
            linear(mixer.gate_up, linear(mixer.gate_down, X)),
        )
    )
    decay = sigmoid(gate) ** 0.25
    S, y = np.zeros((B, H, D, D)), np.zeros((B, T, H, D))
    for t in range(T):
        S = decay[:, t, :, :, None] * S + key[:, t, :, :, None] * value[:, t, :, None]
        y[:, t] = np.einsum("bhkv,bhk->bhv", S, query[:, t]) / np.sqrt(D)
    check(mixer, read_out(mixer, y, H))


@pytest.mark.parametrize(
    "config",
    [
        DeltaNetConfig(num_heads=H),
        DeltaNetConfig(num_heads=H, head_dim=3, beta_max=1.0, num_reflections=3, gate=True),
        DeltaNetConfig(num_heads=H, num_reflections=2, output_gate=True),
    ],
    ids=["delta", "gated products, beta to 1", "products, output gate"],
)
def test_delta_net(config):
    """Matrices `1 - beta k k^T` multiplied out."""
    mixer = small_mixer(config)
    D, n = config.head_dim or WIDTH // H, config.num_reflections
    query = silu(heads(linear(mixer.query, X), D))
    key = silu(heads(linear(mixer.key, X), n, D))
    query, key = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, key))
    value = silu(heads(linear(mixer.value, X), n, D))
    beta = config.beta_max * sigmoid(heads(linear(mixer.beta, X), n))
    decay = np.ones((B, T, H))
    if config.gate:
        rate = np.exp(np.asarray(mixer.log_rate[...]))
        decay = np.exp(-rate * np.log1p(np.exp(linear(mixer.decay, X))))
    S, y = np.zeros((B, H, D, D)), np.zeros((B, T, H, D))
    for t in range(T):
        S = decay[:, t, :, None, None] * S
        for i in range(n):
            k, b = key[:, t, :, i], beta[:, t, :, i, None, None]
            factor = np.eye(D) - b * k[..., :, None] * k[..., None, :]
            S = factor @ S + b * k[..., :, None] * value[:, t, :, i, None]
        y[:, t] = np.einsum("bhkv,bhk->bhv", S, query[:, t]) / np.sqrt(D)
    check(mixer, read_out(mixer, y, H))


@pytest.mark.parametrize(
    "config",
    [
        SliceConfig(block_size=4, drive=True, transition_scale=0.5),
        SliceConfig(block_size=2, implementation="recurrent"),
        SliceConfig(block_size=None, state_dim=9, drive=True, output_gate=True),
    ],
    ids=["blocks of 4, driven", "blocks of 2, recurrent", "dense, driven, output gate"],
)
def test_slice(config):
    """One dense matrix a step."""
    mixer = small_mixer(config)
    N = config.state_dim or WIDTH
    b = config.block_size or N
    blocks = config.transition_scale * linear(mixer.transition, X)
    blocks = blocks.reshape(B, T, N // b, b, b)
    A = np.zeros((B, T, N, N)) + np.eye(N)
    for i in range(N // b):
        A[:, :, i * b : (i + 1) * b, i * b : (i + 1) * b] += blocks[:, :, i]
    state, states = np.tile(np.asarray(mixer.initial_state[...]), (B, 1)), []
    for t in range(T):
        state = np.einsum("bij,bj->bi", A[:, t], state)
        if config.drive:
            state = state + linear(mixer.drive, X[:, t])
        states.append(state)
    check(mixer, read_out(mixer, np.stack(states, axis=1)))


@pytest.mark.parametrize("factors", ["complex", "real", "one"])
def test_pd(factors):
    """Dense matrices, one-hot in each column, times diagonal ones."""
    N = 5
    mixer = small_mixer(PDConfig(factors=factors, state_dim=N, dictionary_size=3, hidden_dim=4))
    weights = softmax(linear(mixer.select, X))
    logits = np.einsum("btk,kij->btij", weights, np.asarray(mixer.dictionary[...]))
    P = np.zeros_like(logits)
    np.put_along_axis(P, logits.argmax(-2, keepdims=True), 1, axis=-2)
    assert not (P[:1, :1] == P).all()

    def network(module):
        return linear(module.down, gelu(linear(module.up, X)))

    drive, D = linear(mixer.drive, X), np.ones((B, T, N))
    if factors == "real":
        D = np.tanh(network(mixer.size))
    if factors == "complex":
        D = sigmoid(network(mixer.size)) * np.exp(2j * np.pi * sigmoid(network(mixer.phase)))
        drive = drive[..., :N] + 1j * drive[..., N:]
    state, states = np.eye(1, N).repeat(B, axis=0), []
    for t in range(T):
        state = np.einsum("bij,bj->bi", P[:, t], D[:, t] * state) + drive[:, t]
        states.append(state)
    y = np.stack(states, axis=1)
    y = np.concatenate([y.real, y.imag], axis=-1) if factors == "complex" else y
    check(mixer, read_out(mixer, y))


def test_output_without_norm_and_gate():
    config = DiagonalConfig(norm=None, output_gate=False)
    bare = small_mixer(config)
    assert bare.readout.norm is None
    assert bare.readout.gate is None
    gated = small_mixer(dataclasses.replace(config, output_gate=True))
    assert gated.readout.gate is not None
    assert run(bare, X).shape == (B, T, WIDTH)
