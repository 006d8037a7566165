"""Errors name the argument, what came and what was expected, in this order and in one wording."""

import ast
import re
from pathlib import Path

import pytest

from plstm_seq.layers.arguments import require, require_choice
from tasks.options import check, check_choice

ROOT = Path(__file__).parents[1]
OLD = re.compile(
    r"\bmust (be|lie|have|hold|satisfy|differ|name|count|not|each|ascend|start|come|join)\b"
    r"|\b(is|are) expected\b|\bexpected [^:;]*[,;] got\b"
)
LIBRARY = ("layers", "models", "graphs", "evaluation", "probing", "training", "interop", "ops")
PLACES = [*(f"plstm_seq/{name}" for name in LIBRARY), "experiments", "tasks"]
FILES = sorted(path for place in PLACES for path in ROOT.glob(f"{place}/**/*.py"))


def strings(path):
    """Lines and strings of a file, docstrings left out, with {} for what is filled in."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [getattr(part, "value", None) for part in parts if id(part) not in docstrings]
        yield (
            getattr(node, "lineno", 0),
            "".join(text if isinstance(text, str) else "{}" for text in texts),
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_falls_back_on_another_wording(path):
    assert [(line, text) for line, text in strings(path) if OLD.search(text)] == []


def test_the_two_packages_say_the_same():
    with pytest.raises(ValueError, match=r"^heads: got 3, expected at least 4$"):
        require(False, "heads", 3, "at least 4")
    with pytest.raises(ValueError, match=r"^heads: got 3, expected at least 4$"):
        check(False, "heads", 3, "at least 4")
    for choice in (require_choice, check_choice):
        with pytest.raises(ValueError, match=r"^mode: got 'up', expected one of left, right$"):
            choice("mode", "up", ("left", "right"))
        choice("mode", "left", ("left", "right"))
