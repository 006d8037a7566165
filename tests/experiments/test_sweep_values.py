"""What varies: products, zips and chains; words of a command line; YAML; mistakes."""

import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import small_config

from experiments import ConfigError, default_config
from experiments.scalars import load
from experiments.sweeps import (
    Sweep,
    chain,
    product,
    read_sweep,
    sweep_of_words,
    vary,
    zip_together,
)
from experiments.sweeps import sweep as sweeps
from experiments.sweeps.values import parse_word, read_values

FIELDS = st.lists(
    st.sampled_from(["seed", "transition.dim", "width", "steps", "learning_rate"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=25, deadline=None)
@given(FIELDS, st.data())
def test_a_product_has_every_combination_once(fields, data):
    numbers = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)
    drawn = {field: data.draw(numbers) for field in fields}
    members = product(*(vary(field, numbers) for field, numbers in drawn.items()))
    expected = [dict(zip(drawn, v, strict=True)) for v in itertools.product(*drawn.values())]
    assert members == expected
    # The same in words and in YAML.
    words = [f"{field}={','.join(map(str, numbers))}" for field, numbers in drawn.items()]
    assert product(*(vary(*parse_word(word)) for word in words)) == expected
    assert read_values({"product": drawn}) == read_values(drawn) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(-20, 20), st.integers(0, 20))
def test_ranges_include_both_ends(first, length):
    assert parse_word(f"seed={first}..{first + length}") == (
        "seed",
        list(range(first, first + length + 1)),
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=0..2,7", [0, 1, 2, 7]),
        ("learning_rate=1e-3,3e-3", [0.001, 0.003]),
        ("evaluation.lengths=[4, 8],[16]", [[4, 8], [16]]),
        (
            "bias_init={kind: constant, value: 0.5},zeros",
            [{"kind": "constant", "value": 0.5}, "zeros"],
        ),
        ("implementation=null,recurrent", [None, "recurrent"]),
        ('name="a,b",c', ["a,b", "c"]),
        ("seed=3", [3]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_words(word, expected):
    assert parse_word(word)[1] == expected


def test_combinations_nest_in_yaml():
    document = yaml.safe_load("""
    product:
      - chain:
          - {transition: diagonal, entries: [signed, positive]}
          - {transition: orthogonal}
      - zip: {transition.dim: [1, 2], width: [32, 16]}
      - seed: 0..1
    """)
    expected = product(
        chain(
            product(vary("transition", ["diagonal"]), vary("entries", ["signed", "positive"])),
            vary("transition", ["orthogonal"]),
        ),
        zip_together(vary("transition.dim", [1, 2]), vary("width", [32, 16])),
        vary("seed", [0, 1]),
    )
    assert read_values(document) == expected
    assert len(expected) == 3 * 2 * 2


def test_a_quoted_number_in_a_file_is_text():
    document = load('{task.regex: "0110", task.group: "60", task.alphabet: "[a", seed: 0..1}')
    texts = {"task.regex": "0110", "task.group": "60", "task.alphabet": "[a"}
    assert read_values(document) == [{**texts, "seed": seed} for seed in (0, 1)]


def test_a_field_with_one_value_belongs_to_the_base():
    sweep = sweep_of_words(default_config("parity"), ["steps=900", "seed=0..1", "width=32"])
    assert (sweep.base.training.steps, sweep.base.model.width) == (900, 32)
    assert sweep.settings == ({"seed": 0}, {"seed": 1})


def test_a_field_of_one_kind_stays_with_the_members_where_the_kind_varies():
    words = ["transition=diagonal,orthogonal", "transition.dim=4"]
    configs = sweep_of_words(default_config("parity"), words).configs()
    kinds = [(c.model.mixer.transition.kind, c.model.mixer.transition.dim) for c in configs]
    assert kinds == [("diagonal", 4), ("orthogonal", 4)]


def test_zipped_words():
    words = ["transition.dim=1,2", "seed=0..1", "width=32,16"]
    sweep = sweep_of_words(default_config("parity"), words, [["width", "transition.dim"]])
    assert sweep.settings == tuple(
        product(
            zip_together(vary("width", [32, 16]), vary("transition.dim", [1, 2])),
            vary("seed", [0, 1]),
        )
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_sweep_round_trips_through_yaml(data):
    scalars = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.none())
    things = st.one_of(scalars, st.lists(scalars, max_size=2), st.booleans())
    members = data.draw(
        st.lists(st.dictionaries(st.sampled_from(["a.b", "c", "d"]), things), min_size=1)
    )
    sweep = Sweep(_BASE, tuple(members))
    assert sweeps.from_document(yaml.safe_load(sweeps.to_yaml(sweep))) == sweep


_BASE = small_config()


def test_a_sweep_file_may_say_product_and_a_config_with_gaps(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("base: {task: {name: parity}, seed: 3}\nproduct: {transition.dim: [1, 2]}\n")
    sweep = read_sweep(path)
    assert sweep.base.seed == 3
    assert [c.model.mixer.transition.dim for c in sweep.configs()] == [1, 2]


@pytest.mark.parametrize(
    ("words", "zipped", "message"),
    [
        (["seed=7..0"], [], r"seed: the range 7\.\.0 is empty; write 0\.\.7"),
        (["seed=0..x"], [], "seed: .*integer.*'0..x'"),
        (["learning_rate=0.1..0.5"], [], "ranges are of whole numbers"),
        (["seed="], [], "a value is missing; write values such as 1,2,4"),
        (["seed=1,,2"], [], "a value is missing"),
        (["seed=[1"], [], "is not a YAML value"),
        (["seed"], [], "expected field=value"),
        (["sead=0..7"], [], "unknown field 'sead'; nearest: seed"),
        (["seed=_.._"], [], "'_.._' is not a range; ranges are of whole numbers"),
        (["seed=0..1__0"], [], "'0..1__0' is not a range"),
        (
            ["seed=0..9999999999"],
            [],
            "seed: the range 0..9999999999: got 10,000,000,000 members, expected at most 100,000",
        ),
        (
            ["seed=0..9999", "width=1..9999"],
            [],
            "every combination: got 99,990,000 members, expected at most 100,000",
        ),
        (["batch_size=3,4"], [], "ambiguous: it may be training.batch_size"),
        (["transition.dim=1,none"], [], "transition.dim: .*integer.*'none'"),
        (["seed=1,2", "seed=3,4"], [], "seed is set twice: give all its values in one word"),
        (
            ["transition.dim=1,2", "model.mixer.transition.dim=3,4"],
            [],
            "is set twice, by two of its names: model.mixer.transition.dim",
        ),
        (["seed=1,2,1"], [], r"members 1 and 3 are the same \(seed=1\): leave one out"),
        (
            ["seed=0..2", "width=16,32"],
            [["seed", "width"]],
            "zip needs equally many values of each: seed has 3, width has 2",
        ),
        (["seed=0..2"], [["seed", "width"]], "'width' is not among the fields that are set: seed"),
        (["seed=0..2"], [["seed", "seed"]], "'seed' is named twice"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_mistakes_in_words(words, zipped, message):
    with pytest.raises(ConfigError, match=message) as error:
        _plan(words, zipped)
    assert "\n" not in str(error.value)


def _plan(words, zipped):
    from experiments.sweeps import plan

    plan(sweep_of_words(default_config("parity"), words, zipped))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0..7", "a sweep needs 'base'"),
        ("base: {task: {name: parity}}", "product, zip or chain, or else members; got none"),
        ("base: {task: {name: parity}}\nprodct: {seed: [1]}", "got prodct"),
        ("base: {task: {name: paritty}}\nproduct: {seed: [1]}", "nearest: parity"),
        (
            "base: {task: {name: parity}}\nproduct: 3",
            "product: got 3, expected a mapping or a list",
        ),
        ("base: {task: {name: parity}}\nproduct: [3]", "got 3, expected fields with their values"),
        ("base: {task: {name: parity}}\nproduct: {seed: []}", "seed has no values"),
        ("base: {task: {name: parity}}\nmembers: []", "one member or more"),
        ("base: {task: {name: parity}}\nmembers: 3", "got 3, expected a list of settings"),
        ("base: [", "while parsing"),
    ],
)
def test_mistakes_in_files(text, message, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sweep(path)


def test_mistakes_in_python():
    with pytest.raises(ConfigError, match="seed is set twice"):
        product(vary("seed", [1]), vary("seed", [2]))
    with pytest.raises(ConfigError, match="one member or more"):
        Sweep(_BASE, ())
