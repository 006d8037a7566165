"""Models near a representation become exact; others are refused, with the reason."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

import tasks
from plstm_seq.layers import ConvolutionConfig
from plstm_seq.layers.mixers import LSTMConfig
from plstm_seq.layers.transition import Orthogonal
from plstm_seq.models import SequenceModel, SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.probing import (
    NotAGroupError,
    RoundingError,
    exact_model,
    faithful_representation,
    homomorphism,
    learned_group,
    permutation_matrices,
    record,
    round_model,
    round_transitions,
    rounding,
)
from plstm_seq.probing.groups import analyse
from tasks.groups import group


def near(name, noise, *, permutations=False, **options):
    task, known = tasks.get("word_problem", group=name, **options), group(name)
    symbols = [known.elements.index(symbol) for symbol in task.vocabulary]
    matrices = faithful_representation(known.table)
    if permutations:
        matrices = permutation_matrices(known.images)
    model = exact_model(
        matrices,
        symbols,
        composition=task.composition,
        family="orthogonal",
        noise=noise,
        implementation="recurrent",
    )
    return task, known, model


def right(model, task, length):
    batch = task.sample(jax.random.key(0), 8, length)
    return float((model(batch.inputs).argmax(-1) == batch.targets).mean())


@pytest.mark.parametrize(
    ("name", "noise", "options"),
    [
        ("S3", 0.05, {}),
        ("S3", 0.03, {"generators": "standard", "composition": "left", "permutations": True}),
        ("Z5", 0.05, {}),
        ("Z5", 0.03, {"generators": "standard"}),
        ("A5", 0.05, {}),
        ("A5", 0.02, {"generators": "standard", "composition": "left"}),
    ],
    ids=["S3", "S3-generators-left", "Z5", "Z5-generator", "A5", "A5-generators-left"],
)
def test_a_model_near_a_representation_becomes_one(name, noise, options):
    task, known, model = near(name, noise, **options)
    rounded = round_model(model, length=8)
    (head,) = rounded.heads
    assert rounded.group.order == len(known.table)
    assert head.before > 0.01
    assert head.after < 1e-12
    assert head.dim == model.config.mixer.transition.dim
    assert rounded.before <= rounded.after == 1
    assert rounded.wrong_steps == 0
    assert rounded.steps == len(known.table) * len(task.vocabulary)
    assert rounded.margin > 0
    # Neither the group nor the task was told; both agree.
    symbols = [known.elements.index(symbol) for symbol in task.vocabulary]
    transitions = record(rounded.model, np.arange(len(symbols))[:, None]).layers[0].transition
    found = homomorphism(transitions[:, 0, 0], known.table, symbols, task.composition)
    assert found.worst < 1e-6
    assert right(model, task, 2000) < 0.99
    assert right(rounded.model, task, 2000) == 1


def test_the_group_that_is_read_off_is_one():
    _, _, model = near("A5", 0.05, generators="standard")
    found = learned_group(model, length=6)
    assert analyse(found.product, found.tokens.tolist()).order == 60
    assert not analyse(found.product, found.tokens.tolist()).solvable
    assert found.agreement > 0.99
    for element, word in enumerate(found.words):
        made = 0
        for token in word:
            made = found.product[found.tokens[token], made]
        assert made == element


def test_dimensions_that_represent_nothing_are_left_out():
    _, _, model = near("S3", 0)
    group_of = learned_group(model)
    exact = np.asarray(record(model, np.arange(6)[:, None]).layers[0].transition[:, 0, 0])
    random = np.random.default_rng(0)
    other = np.linalg.qr(random.normal(size=(6, 2, 2)))[0]
    basis = np.linalg.qr(random.normal(size=(4, 4)))[0]
    both = np.zeros((6, 4, 4))
    both[:, :2, :2], both[:, 2:, 2:] = exact, other
    table, projection, head = round_transitions(basis @ both @ basis.T, group_of)
    assert head.dim == 2
    assert head.before > 0.5
    np.testing.assert_allclose(projection, basis[:, :2] @ basis[:, :2].T, atol=1e-6)
    half = basis[:, :2].T @ table @ basis[:, :2]
    np.testing.assert_allclose(half, exact, atol=1e-6)
    nothing = round_transitions(other, group_of)
    assert nothing[2].dim == 0
    np.testing.assert_array_equal(nothing[0], np.broadcast_to(np.eye(2), (6, 2, 2)))


def test_the_given_model_stays_as_it_is():
    _, _, model = near("S3", 0.05)
    before = jax.tree.map(np.asarray, nnx.state(model))
    rounded = round_model(model, length=8).model
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
    assert not record(rounded, np.arange(6)[:, None]).layers[0].source.any()


def untrained(**changes):
    base = state_tracking(Orthogonal(dim=2), width=8, num_heads=2)
    mixer = {k: v for k, v in changes.items() if k != "num_blocks"}
    base = dataclasses.replace(base, num_blocks=changes.get("num_blocks", 1))
    config = dataclasses.replace(base, mixer=dataclasses.replace(base.mixer, **mixer))
    return SequenceModel(6, config, rngs=nnx.Rngs(0))


def test_an_untrained_model_is_refused():
    with pytest.raises(RoundingError, match=r"not those of a group|tracks nothing"):
        round_model(untrained(), length=4)
    with pytest.raises(NotAGroupError):
        learned_group(untrained(), length=4)


def test_a_model_far_from_a_representation_is_refused(monkeypatch):
    _, _, model = near("S3", 0.05)
    monkeypatch.setattr(rounding, "FARTHEST", 1e-4)
    with pytest.raises(RoundingError, match="no head is near a representation of the group of 6"):
        round_model(model, length=4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_blocks": 2}, "got 2 blocks, expected 1"),
        ({"convolution": ConvolutionConfig()}, "mixer.convolution"),
        ({"learned_initial_state": False}, "mixer.learned_initial_state"),
    ],
)
def test_what_cannot_be_rounded_is_refused(changes, reason):
    with pytest.raises(RoundingError, match=reason):
        round_model(untrained(**changes))


def test_other_mixers_are_refused():
    model = SequenceModel(6, SequenceModelConfig(width=8, mixer=LSTMConfig()), rngs=nnx.Rngs(0))
    with pytest.raises(RoundingError, match="expected a pLSTM layer"):
        round_model(model)


def test_a_group_of_too_many_elements_is_refused():
    _, _, model = near("S3", 0)
    with pytest.raises(NotAGroupError, match="more than 5 elements"):
        learned_group(model, max_order=5)
