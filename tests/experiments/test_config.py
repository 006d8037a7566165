"""Configs round-trip, and what is wrong with one is said by field."""

import dataclasses
import functools
import random

import pytest
from fuzz import refusals
from small_run import small_config

import tasks
from experiments import ConfigError, default_config, override, read_config, write_config
from experiments.config import brief_document, from_document, to_document
from experiments.config_files import COMPLETE, store_config
from experiments.files import DamagedError
from experiments.problems import task_names
from experiments.protocols import Cell, load, model, names
from plstm_seq.layers.initializers import Constant
from plstm_seq.layers.transition import Diagonal, Factorized, Orthogonal
from plstm_seq.training import Uniform


@pytest.mark.parametrize("task", tasks.names())
def test_the_default_of_every_task_round_trips(task, tmp_path):
    config = default_config(task)
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert from_document(to_document(config)) == config
    assert from_document(brief_document(config)) == config


def test_the_complete_config_of_a_run_is_a_file_to_start_from(tmp_path):
    config = override(default_config("modular_arithmetic", modulus=7), ["seed=3"])
    store_config(config, tmp_path)
    complete = tmp_path / COMPLETE
    assert read_config(complete) == config
    assert read_config(complete, {"modulus": 5}).task.make().modulus == 5
    complete.write_text(complete.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(DamagedError, match="its checksum is another"):
        read_config(complete)


def test_a_short_document_is_filled_up():
    config = from_document({"task": {"name": "modular_arithmetic", "modulus": 7}, "seed": 3})
    expected = default_config("modular_arithmetic", modulus=7)
    assert config == dataclasses.replace(expected, seed=3)
    assert config.task.make().modulus == 7


def test_fields_are_found_by_any_tail_of_their_path():
    config = override(
        default_config("parity"),
        ["model.mixer.transition.dim=3", "learning_rate=1e-2", "seed=5", "lengths=[8, 16]"],
    )
    assert config.model.mixer.transition.dim == 3
    assert config.training.optimizer.learning_rate == 0.01
    assert config.seed == 5
    assert config.evaluation.lengths == (8, 16)


def test_a_kind_is_assigned_before_its_fields():
    config = override(
        default_config("parity"),
        ["transition.entries=positive", "transition.dim=1", "transition=diagonal"],
    )
    transition = config.model.mixer.transition
    assert isinstance(transition, Diagonal)
    assert (transition.entries, transition.dim) == ("positive", 1)


def test_another_kind_keeps_what_was_changed_and_takes_its_own_defaults():
    config = override(
        default_config("s3_word_problem"), ["transition=factorized", "transition.dim=3"]
    )
    assert isinstance(config.model.mixer.transition, Factorized)
    changed = override(config, ["transition.kind=orthogonal"]).model.mixer.transition
    assert changed == Orthogonal(dim=3)
    curriculum = override(config, ["curriculum=uniform"]).training.curriculum
    assert curriculum == Uniform()


def test_a_value_that_the_new_kind_refuses_may_be_replaced():
    config = override(default_config("arrow_pointing"), ["mixer.implementation=recurrent"])
    changed = override(config, ["mixer=attention", "mixer.implementation=xla"])
    assert changed.model.mixer.implementation == "xla"
    with pytest.raises(ConfigError, match=r"implementation: .*'recurrent'"):
        override(config, ["mixer=attention"])


def test_nested_kinds():
    config = override(
        default_config("parity"), ["mark.bias_init=constant", "mark.bias_init.value=0.5"]
    )
    assert config.model.mixer.mark.bias_init == Constant(0.5)


def test_task_options():
    config = override(default_config("modular_arithmetic"), ["task.modulus=3"])
    assert config.task.options == {"modulus": 3}
    with pytest.raises(ConfigError, match="no option 'modulo'; nearest: modulus"):
        override(config, ["task.modulo=3"])
    with pytest.raises(ConfigError, match="modulus: got 1, expected at least 2"):
        override(config, ["task.modulus=1"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("source.bias_init.value=0", r"source is null and has no fields"),
        ("trnsition.dim=3", r"unknown field 'trnsition.dim'; nearest: transition.dim"),
        ("batch_size=3", "ambiguous: it may be training.batch_size, evaluation.batch_size"),
        ("transition.dim=none", "transition.dim: .*integer.*'none'"),
        ("transition.dim=0", "transition: .*dim: got 0"),
        ("transition=orthogonl", "unknown kind .orthogonl.; nearest: orthogonal"),
        ("steps=-1", "training: steps: got -1, expected at least 1"),
        ("learning_rate=0", "learning_rate: got 0.*, expected a finite number above 0"),
        ("seed=true", "seed: got true, expected a number"),
        ("seed=010", "seed: got '010', expected a number"),
        ("seed='5'", "seed: got '5', expected a number"),
        ("learning_rate=.inf", "learning_rate: got inf, expected a finite number above 0"),
        ("weight_decay=.inf", "weight_decay: got inf, expected a finite number of at least 0"),
        ("clip_norm=.inf", "clip_norm: got inf, expected a finite number above 0, or None"),
        ("num_blocks=1000000000", "num_blocks: got 1000000000, expected 1 to 1000"),
        ("optimizer.eps=.inf", "eps: got inf, expected a finite number above 0"),
        ("learning_rate=[1", "is not a YAML value"),
        ("seed", "expected field=value"),
        ("=3", "expected field=value"),
        ("seed=1.5", "seed: .*integer"),
        ("seed=-1", "^seed: got -1, expected 0 to 4294967295"),
        ("seed=4294967296", "^seed: got 4294967296, expected 0 to 4294967295"),
        (
            "evaluation.seed=4294967296",
            "^evaluation: seed: got 4294967296, expected 0 to 4294967295",
        ),
        ("task.name=paritty", "unknown task 'paritty'; nearest: parity"),
        ("evaluation.lengths=[]", r"lengths: got \(\), expected one or more numbers"),
        ("model.mixer.implementaton=recurrent", "nearest: model.mixer.implementation"),
    ],
)
def test_wrong_assignments(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(default_config("parity"), [assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [", "while parsing"),
        ("seed: 3", "needs a mapping 'task'"),
        ("task: {modulus: 5}", "task.name"),
        ("task: {name: parity}\nsead: 3", "unknown field 'sead'; nearest: seed"),
        (
            "task: {name: parity}\ntraining: {optimizer: {learning_rat: 1.0}}",
            "training.optimizer.learning_rat",
        ),
    ],
)
def test_wrong_files(text, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "none.yaml")


def test_the_small_config_of_the_tests():
    assert small_config().training.curriculum.longest == 5


def test_a_task_may_have_an_option_named_kind():
    config = override(
        default_config("random_automaton"), ["task.kind=reset", "task.symbols=4", "task.states=4"]
    )
    assert config.task.options == {"kind": "reset", "symbols": 4, "states": 4}


STRANGE = (
    *("foo", "-1", "0", "1e9", "[1,2]", "{a: 1}", "null", "true", "nan", ".inf", "''", "1.5"),
    *("[[1,2],[3]]", "{kind: foo}", "{}", "[]", "x" * 3000, f"[{'1,' * 2000}1]"),
    f"{{{','.join(f'k{i}: {i}' for i in range(300))}}}",
)


def paths(document, before=()):
    for name, value in document.items():
        yield ".".join((*before, name))
        if isinstance(value, dict):
            yield from paths(value, (*before, name))


def strange_words(config, draws, share=1.0):
    """A field and a value each; a share of the fields."""
    fields = [path for path in paths(to_document(config)) if draws.random() < share]
    return [f"{path}={draws.choice(STRANGE)}" for path in fields]


def changed(config, word):
    """What differs from the defaults describes the whole of it."""
    new = override(config, [word])
    assert from_document(brief_document(new)) == new


@pytest.mark.parametrize(
    "task", ["parity", "modular_arithmetic", "automaton", "arrow_pointing", "dag_boolean"]
)
def test_any_value_of_any_field_is_taken_or_refused_shortly(task):
    config = default_config(task)
    words = strange_words(config, random.Random(0))
    refused = refusals(functools.partial(changed, config), words)
    assert len(refused) > 50
    assert max(map(len, refused)) <= 500


def recipes():
    """Name and config: the default of each task, and each task of each protocol."""
    yield from ((name, default_config(name)) for name in task_names())
    for protocol in map(load, names()):
        for task in protocol.tasks:
            yield f"{protocol.name} {task}", Cell(protocol, task, model(protocol, "plstm")).config


@pytest.mark.slow
def test_some_values_of_some_fields_of_every_recipe():
    draws = random.Random(1)
    for name, config in recipes():
        words = strange_words(config, draws, share=0.05)
        refused = refusals(functools.partial(changed, config), words)
        assert max(map(len, refused), default=0) <= 500, name
