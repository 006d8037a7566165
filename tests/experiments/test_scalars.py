"""What a text in YAML is read as, and that what is written is read as it was."""

import math

import pytest
import yaml

from experiments.scalars import dump, load, load_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("2024-01-01", "2024-01-01"),
        ("a#b", "a#b"),
        ("'a #b'", "a #b"),
        ('"0110"', "0110"),
        ('["1", 1, 1e3, true]', ["1", 1, 1000.0, True]),
        ('{task.regex: "0110"}', {"task.regex": "0110"}),
        ("3e-3", 3e-3),
        ("-inf", -math.inf),
        ("null", None),
    ],
)
def test_what_a_text_is_read_as(text, value):
    read = load_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["a #b", "#x", "&a", "!int 3", "[", "[" * 3000, "9" * 5000])
def test_what_is_no_value(text):
    with pytest.raises(yaml.YAMLError):
        load_value(text)


@pytest.mark.parametrize(
    "value", ["1e3", "010", "yes", "1:30", "true", "inf", "2024", "~", "", "a #b", "<<", 1e-5, None]
)
def test_what_is_written_is_read_as_it_was(value):
    assert load(dump({"a": [value]})) == {"a": [value]}
    assert yaml.safe_load(dump({"a": value})) == {"a": value} or value == 1e-5


def test_mappings_are_merged():
    assert load("a: &a {x: 1}\nb: {<<: *a, y: 2}")["b"] == {"x": 1, "y": 2}


def test_parts_that_repeat_parts_are_bounded():
    layers = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
    with pytest.raises(yaml.YAMLError, match="repeated"):
        load(f"l0: &l0 [a]\n{layers}")
