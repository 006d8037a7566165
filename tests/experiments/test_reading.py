"""Values are read as what a field may be, and unknown fields are refused wherever they stand."""

import dataclasses

import numpy as np
import pytest

from experiments import ConfigError, EvaluationConfig, TaskConfig, default_config, override
from experiments.config import ExperimentConfig, from_document, to_document
from experiments.reading import plain, read
from plstm_seq.training import Staged, TrainingConfig
from plstm_seq.training.curriculum import Curriculum
from tasks.options import Options


@pytest.mark.parametrize(
    ("form", "given", "message"),
    [
        (TrainingConfig, {"step": 3}, "unknown field 'step'; nearest: steps"),
        (TrainingConfig, {"optimizer": {"lr": 1}}, "unknown field 'optimizer.lr'"),
        (TrainingConfig, {"solved": {"treshold": 1}}, "'solved.treshold'; nearest: threshold"),
        (Curriculum, {"kind": "uniform", "maximun": 3}, "'maximun'; nearest: maximum"),
        (Curriculum, {"maximun": 3}, "unknown field 'maximun'"),
        (TrainingConfig, {"curriculum": {"kind": "staged", "maximum": 3}}, "'curriculum.maximum'"),
        (tuple[int, ...], [1, True], "got true, expected a number"),
        (dict[str, TrainingConfig], {"one": {"step": 3}}, "unknown field 'one.step'"),
    ],
)
def test_unknown_fields_and_slips_are_refused(form, given, message):
    with pytest.raises(ConfigError, match=message):
        read(form, given)


def test_what_is_written_is_read():
    config = TrainingConfig(curriculum=Staged(((4, 10), (8, 10))), steps=70)
    assert read(TrainingConfig, plain(config)) == config
    assert read(TrainingConfig, {"curriculum": config.curriculum}).curriculum is config.curriculum


def test_options_are_compared_and_hashed_by_value():
    options = Options({"a": [1, [2, 3]], "b": {"c": 0.5}})
    assert options == {"b": {"c": 0.5}, "a": (1, (2, 3))}
    assert hash(options) == hash(Options({"b": {"c": 0.5}, "a": [1, [2, 3]]}))
    assert len({Options({"a": value}) for value in (1, 1.0, True, [1], (1,))}) == 4
    assert Options({"a": np.int64(3), "b": np.arange(2)}) == {"a": 3, "b": (0, 1)}
    assert list(options) == ["a", "b"]
    assert options != [("a", 1)]


def test_a_config_is_a_value():
    config = default_config("modular_arithmetic", modulus=7)
    same = override(default_config("modular_arithmetic"), ["task.modulus=7"])
    assert config.task == same.task
    assert len({config, from_document(to_document(config))}) == 1
    assert len({config, dataclasses.replace(config, seed=1)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.task.name = "parity"
    with pytest.raises(TypeError):
        config.task.options["modulus"] = 5


def test_lists_in_a_config_become_tuples():
    training = TrainingConfig(steps=200, curriculum=Staged([[4, 100], [8, 100]]))
    model = default_config("parity").model
    evaluation = EvaluationConfig(lengths=[4, 8])
    config = ExperimentConfig(TaskConfig("parity"), model, training, evaluation)
    assert config == from_document(to_document(config))
    assert hash(config) == hash(from_document(to_document(config)))


@pytest.mark.parametrize("assignment", ["modulus=7", "foo.modulus=7", "modulu=7"])
def test_an_option_that_is_not_set_is_named_by_its_whole_path(assignment):
    with pytest.raises(ConfigError, match=r"nearest: task\.modulus"):
        override(default_config("modular_arithmetic"), [assignment])


def test_fields_that_depend_on_each_other_may_change_together():
    config = default_config("parity")
    assert config.training.steps > 40
    words = ["stages=[[4,20],[8,20]]", "training.steps=40", "curriculum=staged"]
    for order in (words, words[::-1]):
        changed = override(config, order).training
        assert (changed.steps, changed.curriculum.stages) == (40, ((4, 20), (8, 20)))
    with pytest.raises(ConfigError, match=r"^training: steps: got 40, expected at least 1401"):
        override(config, words[1:])


def test_fields_come_and_go_with_what_has_them():
    config = override(default_config("parity"), ["source={weight: true}", "source.weight=false"])
    assert config.model.mixer.source.weight is False
    with pytest.raises(ConfigError, match="source is null and has no fields"):
        override(config, ["source=null", "source.weight=true"])


def test_several_mistakes_are_told_at_once():
    words = ["learning_rate=0", "training.batch_size=0", "evaluation.batch_size=0"]
    with pytest.raises(ConfigError) as caught:
        override(default_config("parity"), words)
    assert str(caught.value) == (
        "training.optimizer: learning_rate: got 0.0, expected a finite number above 0; "
        "evaluation: batch_size: got 0, expected at least 1"
    )
