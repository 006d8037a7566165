"""Eigenvalue range, initial values and dropout: leaves of a model, so members differ in them."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from toy import Parity

from plstm_seq.layers import Hyperparameter, PLSTM1DConfig
from plstm_seq.layers.initializers import Constant
from plstm_seq.layers.transition import Diagonal
from plstm_seq.models import PostUpConfig, SequenceModel, SequenceModelConfig
from plstm_seq.training import Member, TrainingConfig, Uniform, fit, fit_members, load_model
from plstm_seq.training.leaves import named_leaves

TASK = Parity()
TRAINING = TrainingConfig(
    steps=8,
    batch_size=4,
    steps_per_dispatch=4,
    checkpoint_every=4,
    curriculum=Uniform(minimum=2, maximum=4),
    solved=None,
)
MIXER = PLSTM1DConfig(
    num_heads=2, transition=Diagonal(dim=1), convolution=None, implementation="recurrent"
)
CONFIG = SequenceModelConfig(width=8, block=PostUpConfig(projection_round=8), mixer=MIXER)


def changed(*, dropout=None, factor=10.0, bias=0.4):
    transition = Diagonal(dim=1, eigenvalue_factor=factor, eigenvalue_bias_init=Constant(bias))
    return replace(
        CONFIG,
        block=replace(CONFIG.block, dropout=dropout),
        mixer=replace(MIXER, transition=transition),
    )


def make(config):
    return SequenceModel(2, config, rngs=nnx.Rngs(0))


def leaves(model):
    return {name: np.asarray(leaf) for name, leaf in named_leaves(nnx.state(model)).items()}


def train(config, folder=None, resume=False):
    model = make(config)
    key = jax.random.key(1)
    fit(model, TASK.sample, TRAINING, key=key, folder=folder, resume=resume)
    return leaves(model)


def assert_same(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def test_members_that_differ_in_leaves_are_each_what_they_are_alone():
    configs = [
        changed(dropout=0.0),
        changed(dropout=0.3, factor=2.0),
        changed(dropout=0.3, bias=-0.2),
    ]
    models = [make(config) for config in configs]
    members = [Member(model, TRAINING, jax.random.key(1)) for model in models]
    results = fit_members(members, TASK.sample)
    assert [result.members for result in results] == [3, 3, 3]
    for model, config in zip(models, configs, strict=True):
        assert_same(leaves(model), train(config), 1e-5)


def test_training_leaves_hyperparameters_as_they_are():
    model = make(changed(dropout=0.3, factor=2.0))
    before = leaves(model)
    numbers = {
        ".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, Hyperparameter))
    }
    assert numbers == {"blocks.0.dropout", "blocks.0.mixer.transition.eigenvalue_factor"}
    after = train(changed(dropout=0.3, factor=2.0))
    assert all((after[name] == before[name]) == (name in numbers) for name in numbers)
    assert not np.array_equal(after["lm_head"], before["lm_head"])


def test_dropout_of_rate_zero_trains_as_without_and_a_rate_does_not(tmp_path):
    without = train(changed(), tmp_path)
    zero = train(changed(dropout=0.0))
    assert zero.pop("blocks.0.dropout") == 0
    assert_same(without, zero, 1e-5)
    assert np.abs(train(changed(dropout=0.3))["lm_head"] - without["lm_head"]).max() > 1e-4
    with pytest.raises(ValueError, match=r"blocks\.0\.dropout is missing in the checkpoint"):
        load_model(make(changed(dropout=0.1)), tmp_path)


def test_a_resumed_run_drops_the_same_features(tmp_path):
    config = changed(dropout=0.3)
    whole = train(config, tmp_path)
    shutil.rmtree(tmp_path / "8")
    with pytest.warns(RuntimeWarning, match="8 is corrupt"):
        resumed = train(config, tmp_path, resume=True)
    assert_same(resumed, whole)
    restored = make(changed(dropout=0.1))
    assert load_model(restored, tmp_path).step == 8
    assert_same(leaves(restored), whole)
