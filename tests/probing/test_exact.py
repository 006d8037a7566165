"""Written weights solve word problems, and probes say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from fast_compile import fast_jit
from flax import nnx

import tasks
from plstm_seq.evaluation import Stream
from plstm_seq.probing import (
    by_token,
    exact_model,
    faithful_representation,
    homomorphism,
    linear_probe,
    permutation_matrices,
    realizations,
    record,
    sample_states,
    sensitivity,
    separability,
)
from plstm_seq.probing.exact import rotation_logarithm
from tasks.groups import group

S3 = group("S3")
KEY = jax.random.key(0)


def made(task, known, *, permutations=False, **options):
    given = permutation_matrices(known.images) if permutations else None
    symbols = [known.elements.index(symbol) for symbol in task.vocabulary]
    return exact_model(
        faithful_representation(known.table) if given is None else given,
        symbols,
        composition=task.composition,
        implementation="recurrent",
        **options,
    )


@pytest.mark.parametrize(
    ("name", "options", "model"),
    [
        ("S3", {}, {}),
        ("S3", {"composition": "left"}, {"permutations": True}),
        ("S3", {"generators": "standard"}, {"family": "orthogonal"}),
        ("Z2", {}, {"family": "orthogonal"}),
        ("A4", {"generators": "standard"}, {"family": "orthogonal", "dtype": jnp.bfloat16}),
    ],
    ids=["S3", "left", "generators", "parity", "bf16"],
)
def test_every_position_is_right(name, options, model):
    task, known = tasks.get("word_problem", group=name, **options), group(name)
    batch = task.sample(KEY, 4, 200)
    graphdef, variables = nnx.split(made(task, known, **model))
    logits = fast_jit(lambda variables: nnx.merge(graphdef, variables)(batch.inputs))(variables)
    np.testing.assert_array_equal(logits.argmax(-1), batch.targets)
    ranked = np.sort(np.asarray(logits, np.float64), axis=-1)
    assert (ranked[..., -1] - ranked[..., -2]).min() > 3  # sure of it, so that training can go on


def test_probes_find_the_representation_again():
    task = tasks.get("word_problem", group="S3")
    model = made(task, S3)
    recording = record(model, task.sample(KEY, 8, 16).inputs)
    gates = by_token(recording, num_tokens=6)
    (part,) = realizations(recording.layers[0], gates)
    assert homomorphism(part.transitions, S3.table, range(6)).worst < 1e-5
    assert not recording.layers[0].source.any()


def test_states_of_an_exact_model_stay_apart_and_those_of_a_disturbed_one_do_not():
    task = tasks.get("word_problem", group="S3")
    stream = Stream(task.draw, task.start, task.advance)
    lengths = [4, 8, 16, 32, 64, 512]

    def sampled(**options):
        model = made(task, S3, **options)
        return sample_states(model, stream, lengths, key=KEY, num_sequences=200)

    exact = sampled()
    found = separability(exact, reference=32)
    assert found.lengths == tuple(lengths)
    assert found.ratio.max() < 1e-3
    assert (found.predicted, found.failed) == (np.inf, np.inf)
    assert found.nearest.min() == 1
    probe = linear_probe(exact, num_labels=6, fit_until=32)
    assert probe.fitted == (4, 8, 16, 32)
    assert probe.accuracy.min() == 1
    assert probe.most_frequent.max() < 0.35

    disturbed = sampled(noise=0.1)
    found = separability(disturbed, reference=32)
    assert (np.diff(found.reach[:5]) > 0).all()
    assert found.failed in (64, 512)
    assert 20 < found.predicted < 1000
    probe = linear_probe(disturbed, num_labels=6, fit_until=32)
    assert probe.accuracy[-1] < 0.7


def test_a_word_problem_depends_on_every_symbol():
    task = tasks.get("word_problem", group="S3")
    found = sensitivity(made(task, S3), task.sample(KEY, 3, 9).inputs, key=KEY)
    assert found.changed.shape == found.gradient.shape == (3, 9)
    assert found.changed.all()
    assert (found.gradient > 0.1).all()


@pytest.mark.parametrize("turned", [0, 2, 4])
def test_logarithms_of_rotations(turned):
    random = np.random.default_rng(turned)
    basis = np.linalg.qr(random.standard_normal((5, 5)))[0]
    angles = np.diag([-1.0] * turned + [1.0] * (5 - turned))
    skew = random.standard_normal((5, 5))
    rotation = scipy.linalg.expm(skew - skew.T) if turned == 0 else basis @ angles @ basis.T
    found = rotation_logarithm(rotation)
    np.testing.assert_allclose(found, -found.T, atol=1e-10)
    np.testing.assert_allclose(scipy.linalg.expm(found), rotation, atol=1e-10)
    assert np.abs(np.linalg.eigvals(found)).max() < np.pi + 1e-9


def test_refusals():
    matrices = faithful_representation(S3.table)
    with pytest.raises(ValueError, match="orthogonal_form"):
        exact_model(2 * matrices, range(6))
    with pytest.raises(ValueError, match="faithful"):
        exact_model(np.ones((6, 1, 1)), range(6))
    with pytest.raises(ValueError, match="family"):
        exact_model(matrices, range(6), family="diagonal")
    with pytest.raises(ValueError, match="composition"):
        exact_model(matrices, range(6), composition="up")
    with pytest.raises(ValueError, match=r"\[G, m, m\]"):
        exact_model(matrices[:, 0], range(6))
    task = tasks.get("word_problem", group="S3")
    stream = Stream(task.draw, task.start, task.advance)
    with pytest.raises(ValueError, match="above 0"):
        sample_states(exact_model(matrices, range(6)), stream, [0], key=KEY)
