"""Automata read from files."""

import random

import pytest
from fuzz import refusals

import tasks
from tasks.groups import read_permutations
from tasks.regular import read_table, regular_table

MODULO_3 = """
# a binary number modulo 3

state  label  0   1
r0     zero   r0  r1   # the first state is the initial one
r1     one    r2  r0
r2     two    r1  r2
"""


def test_a_file_is_the_table_it_holds(tmp_path):
    path = tmp_path / "modulo.txt"
    path.write_text(MODULO_3)
    task = tasks.get("automaton", file=str(path))
    assert task.vocabulary == ("0", "1")
    assert task.labels == ("zero", "one", "two")
    assert task == tasks.Automaton(label_names=["zero", "one", "two"])
    path.write_text(MODULO_3.replace("r0  r1", "r0  r2"))
    assert task != tasks.get("automaton", file=str(path))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected 'state label' and the names"),
        ("\na b c\n", 2, "expected 'state label'"),
        ("state label a a\n", 1, "symbols must differ"),
        ("state label a\n", 1, "a line for each state"),
        ("state label a b\ns 0 s\n", 2, "2 next states; got 3 words: s 0 s"),
        ("state label a\ns 0 s\n\ns 1 s\n", 4, "state 's' has a line already"),
        ("state label a\ns 0 t\n", 2, "no line for state 't'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, line, message):
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"wrong\.txt:{line}: .*{message}"):
        tasks.get("automaton", file=str(path))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt can't be read"):
        tasks.get("automaton", file=str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "a.txt", "regex": "ab"}, "in one way, not by file and regex"),
        ({"regex": "ab", "outputs": [0, 1]}, "not by outputs and regex"),
        ({"alphabet": "ab"}, "alphabet='ab' needs a regex"),
    ],
)
def test_one_way_of_giving_an_automaton(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.get("automaton", **options)


PIECES = {
    "regex": (regular_table, list("ab|*+?()[].\\{}^$- 3")),
    "permutations": (read_permutations, ["(", ")", " ", ",", "0", "1", "12", "<", ">", "(0 1)"]),
    "words": (tasks.get("automaton").encode, list("01 a,")),
}


@pytest.mark.parametrize("form", PIECES)
def test_any_text_is_read_or_a_short_error(form):
    read, pieces = PIECES[form]
    draws = random.Random(0)
    texts = ("".join(draws.choices(pieces, k=draws.randint(0, 30))) for _ in range(1000))
    refused = refusals(read, texts)
    assert 50 < len(refused) < 1000
    assert max(map(len, refused)) < 500


def test_any_damage_of_a_table_is_an_error_that_names_it(tmp_path):
    text = "state label 0 1\nr0 zero r0 r1\nr1 one r2 r0\nr2 two r1 r2\n"
    path = tmp_path / "table.txt"
    draws = random.Random(0)

    def damaged():
        for _ in range(500):
            changed = bytearray(text.encode())
            for _ in range(draws.randint(1, 3)):
                changed[draws.randrange(len(changed))] = draws.choice(b"r0 \n#\0\xff1")
            path.write_bytes(changed)
            yield path

    refused = refusals(read_table, damaged())
    assert len(refused) > 100
    assert all("table.txt" in message and len(message) < 500 for message in refused)
