"""Automata read from files."""

import pytest

import tasks

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
