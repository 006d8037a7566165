"""The consistency term: what it measures, what it asks of a model, and what it does in training."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorder import Recorder
from toy import Parity, ToyModel

import tasks
from plstm_seq.layers import ConvolutionConfig
from plstm_seq.layers.mixers import LSTMConfig
from plstm_seq.layers.transition import Orthogonal, Table
from plstm_seq.models import PreUpConfig, SequenceModel
from plstm_seq.models.sequence import state_tracking
from plstm_seq.probing import exact_model, faithful_representation, homomorphism, record
from plstm_seq.training import Member, OptimizerConfig, TrainingConfig, Uniform, fit, fit_members
from plstm_seq.training.loss import PAIRS, consistency_term, own_products
from tasks.groups import group

KEY = jax.random.key(0)
CONFIG = TrainingConfig(
    steps=12,
    batch_size=4,
    steps_per_dispatch=6,
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=1, weight_decay=0.0),
    curriculum=Uniform(maximum=4),
    solved=None,
)


def near(name, noise, composition="right", seed=0, symbols=None):
    """A model near a representation of a group, whose tokens are all elements, in another order."""
    table = group(name).table
    if symbols is None:
        symbols = np.random.default_rng(1).permutation(len(table)).tolist()
    model = exact_model(
        faithful_representation(table),
        symbols,
        composition=composition,
        noise=noise,
        seed=seed,
        implementation="recurrent",
    )
    return model, table, symbols


def measured(model, key=KEY):
    products = own_products(model, key)
    return products, *consistency_term(model.transitions_by_token(), products)


@pytest.mark.parametrize("composition", ["right", "left"])
@pytest.mark.parametrize("name", ["S3", "Z5"])
class TestOfAGroup:
    def test_an_exact_model_has_none(self, name, composition):
        model, table, symbols = near(name, 0, composition)
        products, mean, counts = measured(model)
        assert mean < 1e-10
        order = len(table)
        assert counts["counted_pairs"] == counts["asked_pairs"] == order**2
        assert len({*zip(products.first.tolist(), products.second.tolist(), strict=True)}) == (
            order**2
        )
        first, second, product = (np.array(symbols)[tokens] for tokens in products[:3])
        expected = table[first, second] if composition == "right" else table[second, first]
        np.testing.assert_array_equal(product, expected)

    def test_is_that_of_a_computation_by_hand(self, name, composition):
        model, table, symbols = near(name, 0.03, composition)
        order = len(table)
        made = record(model, np.arange(order)[:, None]).layers[0].transition[:, 0, 0]
        of_element = np.empty_like(made)
        of_element[symbols] = made
        total = 0.0
        for a in range(order):
            for b in range(order):
                c = table[a, b] if composition == "right" else table[b, a]
                away = of_element[c] - of_element[b] @ of_element[a]
                total += np.square(away).sum() / len(away)
        _, mean, counts = measured(model)
        assert counts["counted_pairs"] == order**2
        np.testing.assert_allclose(mean, total / order**2, rtol=1e-4)
        assert mean > 1e-4


def test_of_many_tokens_random_pairs_are_asked():
    model, table, symbols = near("A5", 0)
    products, mean, counts = measured(model)
    other = own_products(model, jax.random.key(1))
    assert counts["counted_pairs"] == counts["asked_pairs"] == PAIRS < len(table) ** 2
    assert mean < 1e-10
    assert not np.array_equal(products.first, other.first)
    assert not np.array_equal(products.first, products.second)
    first, second, product = (np.array(symbols)[tokens] for tokens in products[:3])
    np.testing.assert_array_equal(product, table[first, second])


def answering(alone, words, sure=0.9):
    """A model of two tokens that gives its answers, label by word, a probability."""

    class Model(SimpleNamespace):
        def __call__(self, tokens):
            answers = [
                [alone[word[0]], *([words[tuple(word)]] if len(word) > 1 else [])]
                for word in tokens.tolist()
            ]
            shares = jnp.full((*tokens.shape, 3), (1 - sure) / 2)
            places = jax.nn.one_hot(jnp.array(answers), 3, dtype=bool)
            return jnp.log(jnp.where(places, sure, shares))

    return Model(vocab_size=2)


class TestWhatCounts:
    words = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 0}  # noqa: RUF012

    def test_an_answer_that_no_token_has_does_not(self):
        products = own_products(answering((0, 1), self.words), KEY)
        assert products.counted.tolist() == [True, True, False, True]
        assert products.product[products.counted].tolist() == [0, 1, 0]

    def test_an_answer_that_two_tokens_have_does_not(self):
        products = own_products(answering((0, 0), self.words), KEY)
        assert not products.counted.any()

    def test_an_answer_that_is_not_sure_does_not(self):
        assert not own_products(answering((0, 1), self.words, 0.5), KEY).counted.any()
        assert own_products(answering((0, 1), self.words, 0.51), KEY).counted.any()

    def test_none_is_a_term_of_zero_without_gradient(self):
        products = own_products(answering((0, 0), self.words), KEY)
        transitions = jax.random.normal(KEY, (2, 3, 2, 2))
        mean, gradient = jax.value_and_grad(lambda t: consistency_term(t, products)[0])(transitions)
        assert mean == 0
        np.testing.assert_array_equal(gradient, 0)


def small(transition=None, num_blocks=1, **changes):
    config = state_tracking(transition or Orthogonal(dim=2), width=8, num_heads=2)
    if "convolution" in changes:
        changes["mixer"] = replace(config.mixer, convolution=changes.pop("convolution"))
    return SequenceModel(6, replace(config, num_blocks=num_blocks, **changes), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("block", [None, PreUpConfig()], ids=["post_up", "pre_up"])
@pytest.mark.parametrize("transition", [Orthogonal(dim=2), Table(dim=2, tokens=6)])
def test_transitions_by_token_are_those_of_every_position(block, transition):
    model = small(transition, **({} if block is None else {"block": block}))
    tokens = np.array([[0, 1, 2, 3, 4, 5], [5, 5, 0, 3, 1, 2]])
    found = np.asarray(model.transitions_by_token())
    assert found.shape == (6, 2, 2, 2)
    at_positions = record(model, tokens).layers[0].transition
    np.testing.assert_allclose(at_positions, found[tokens], atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


REFUSED = [
    (lambda: small(num_blocks=2), "num_blocks: got 2 blocks, expected 1"),
    (lambda: small(convolution=ConvolutionConfig()), r"mixer\.convolution: got one"),
    (lambda: small(mixer=LSTMConfig()), "mixer: got lstm, expected a pLSTM layer"),
    (lambda: ToyModel(width=4, rngs=nnx.Rngs(0)), "ToyModel has no transitions_by_token"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
def test_a_model_without_transitions_by_token_is_refused(make, reason, tmp_path):
    config = replace(CONFIG, consistency=0.5)
    with pytest.raises(ValueError, match=f"^consistency: got 0.5, expected 0.*{reason}"):
        fit(make(), Parity().sample, config, key=KEY, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=reason):
        fit_members([Member(make(), config, KEY)], Parity().sample)


@pytest.mark.parametrize("consistency", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(consistency):
    with pytest.raises(
        ValueError, match=r"consistency: got .*, expected a finite number of at least 0"
    ):
        TrainingConfig(consistency=consistency)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error"])
def test_other_losses_are_refused(loss):
    with pytest.raises(ValueError, match=r"consistency: got .*, expected 0 with loss"):
        TrainingConfig(consistency=0.1, loss=loss, solved=None)


class TestTraining:
    task = tasks.get("word_problem", group="S3")

    def model(self, noise=0.05, seed=0):
        known = group("S3")
        symbols = [known.elements.index(symbol) for symbol in self.task.vocabulary]
        return near("S3", noise, self.task.composition, seed, symbols)

    def train(self, config, seed=0, **options):
        model, table, symbols = self.model(seed=seed, **options)
        recorder = Recorder()
        trackers = [recorder]
        fit(model, self.task.sample, config, key=jax.random.key(seed), trackers=trackers)
        transitions = np.asarray(model.transitions_by_token()[:, 0])
        found = homomorphism(transitions, table, symbols, self.task.composition)
        return found.mean, recorder.records

    def test_makes_a_representation_of_a_model_near_one(self):
        model, table, symbols = self.model()
        transitions = np.asarray(model.transitions_by_token()[:, 0])
        before = homomorphism(transitions, table, symbols, self.task.composition).mean
        plain, without = self.train(CONFIG)
        asked, records = self.train(replace(CONFIG, consistency=1.0))
        assert asked < 0.7 * before
        assert asked < 0.7 * plain
        assert [r["consistency_share"] for r in records] == [1.0, 1.0]
        assert records[0]["consistency"] > 2 * records[1]["consistency"] > 0
        assert not any("consistency" in name for record in without for name in record)

    def test_changes_nothing_while_nothing_counts(self):
        """An untrained model is sure of nothing: the term is 0, and all draws stay as they are."""

        def train(consistency):
            recorder = Recorder()
            config = replace(CONFIG, consistency=consistency)
            fit(small(), self.task.sample, config, key=KEY, trackers=[recorder])
            return recorder.records

        for plain, record_ in zip(train(0.0), train(1.0), strict=True):
            assert record_["consistency_share"] == 0
            assert "consistency" not in record_
            for name in ("loss", "gradient_norm", "token_accuracy"):
                np.testing.assert_allclose(record_[name], plain[name], rtol=1e-5)

    def test_members_have_their_own(self):
        config = replace(CONFIG, steps=6, consistency=1.0)
        recorders = [Recorder(), Recorder()]
        members = [
            Member(self.model(seed=seed)[0], config, jax.random.key(seed), None, [recorder])
            for seed, recorder in enumerate(recorders)
        ]
        fit_members(members, self.task.sample)
        for seed, recorder in enumerate(recorders):
            _, alone = self.train(config, seed)
            for name in ("loss", "consistency", "consistency_share"):
                np.testing.assert_allclose(
                    recorder.records[0][name], alone[0][name], rtol=1e-3, err_msg=name
                )
        losses = [recorder.records[0]["consistency"] for recorder in recorders]
        assert losses[0] != pytest.approx(losses[1], rel=1e-2)

    def test_members_of_other_weights_are_refused(self):
        configs = [CONFIG, replace(CONFIG, consistency=1.0)]
        members = [Member(small(), config, KEY) for config in configs]
        with pytest.raises(ValueError, match="trains otherwise"):
            fit_members(members, self.task.sample)
