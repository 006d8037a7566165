"""Reads automata from tables in text files and from regular expressions.

A small parser turns an expression into an automaton whose states are subsets of the positions in
the expression. The automaton is then minimised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from tasks.options import check, shown, some


class Table(NamedTuple):
    """A deterministic automaton in plain values.

    Attributes:
        transition: `[states][symbols]`, the next state.
        outputs: Label id of each state.
        initial: State before the first symbol.
        symbols: Names of the symbols.
        labels: Names of the labels.
    """

    transition: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    initial: int
    symbols: tuple[str, ...]
    labels: tuple[str, ...]


def read_table(path: str | Path) -> Table:
    """Read an automaton from a text file.

    A line a state: its name, its label, and the next state under each symbol. The first line has
    `state label` and the names of the symbols, the second is the state before the first symbol.
    Words are separated by white space; `#` begins a comment; empty lines don't count.

        state  label  0   1      # a binary number modulo 3
        r0     zero   r0  r1
        r1     one    r2  r0
        r2     two    r1  r2

    Args:
        path: Of the file.

    Returns:
        The automaton; labels are numbered as they come.

    Raises:
        ValueError: If the file can't be read or is no such table, with the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the automaton {path} can't be read: {error}") from None

    def refuse(line: int, problem: str) -> NoReturn:
        raise ValueError(f"{path}:{line}: {problem}")

    lines = [
        (number, words)
        for number, line in enumerate(text.splitlines(), 1)
        if (words := line.partition("#")[0].split())
    ]
    if not lines or lines[0][1][:2] != ["state", "label"] or len(lines[0][1]) < 3:
        refuse(lines[0][0] if lines else 1, "expected 'state label' and the names of the symbols")
    (header, (_, _, *symbols)), *rows = lines
    if len(set(symbols)) < len(symbols):
        refuse(header, f"got {some(symbols)}, expected different symbols")
    if not rows:
        refuse(header, "expected a line for each state below")
    states: dict[str, int] = {}
    labels: dict[str, int] = {}
    for number, words in rows:
        if len(words) != len(symbols) + 2:
            refuse(
                number,
                f"got {len(words)} words: {some(words)}, expected a state, its label and "
                f"{len(symbols)} next states",
            )
        if words[0] in states:
            refuse(number, f"state {shown(words[0])} has a line already")
        states[words[0]] = len(states)
        labels.setdefault(words[1], len(labels))
    for number, (_, _, *following) in rows:
        for state in following:
            if state not in states:
                refuse(number, f"there is no line for state {shown(state)}")
    return Table(
        tuple(tuple(states[state] for state in words[2:]) for _, words in rows),
        tuple(labels[words[1]] for _, words in rows),
        0,
        tuple(symbols),
        tuple(labels),
    )


MAX_STATES = 4096
"""The largest number of states of an automaton before it is minimised."""

MAX_LETTERS, MAX_DEPTH = 1000, 100
"""The largest length of an expression, and the largest depth of its brackets."""

_UNSUPPORTED = {
    "{": "begins a count, which is not supported: write aaa instead of a{3}",
    "}": "ends a count, which is not supported: write aaa instead of a{3}",
    "^": "is not supported: words match as a whole, and [ab] names the symbols there may be",
    "$": "is not supported: words match as a whole",
}
_SPECIAL = {*"|*+?()[].\\", *_UNSUPPORTED}
_NOWHERE = -1
_Part = tuple[bool, int, int]
"""The properties of a part of an expression: whether it matches the empty word, the positions with
which its words begin, and those with which they end.

Sets of positions are the bits of a number: position p is `1 << p`.
"""


def regular_table(expression: str, alphabet: str | None = None) -> Table:
    """The smallest complete automaton that accepts what a regular expression matches as a whole.

    Single letters stand for themselves, `.` for any symbol, `[abc]` for one of some; a
    backslash makes the letter behind it stand for itself. Ranges (`[a-z]`), complements (`[^a]`),
    counts (`a{3}`) and anchors are refused. `|` is or; `*`, `+`, `?` repeat any
    number of times, at least once, at most once; brackets group, `()` is the empty word. White
    space doesn't count.

    Args:
        expression: Such as `(ab|ba)*`.
        alphabet: The symbols, such as `abc`; by default those of the expression, sorted.

    Returns:
        States numbered from the initial one in the order in which words reach them, shortest words
        first; label 1 of states that accept, 0 of others.

    Raises:
        ValueError: If the expression is none or too long, has a symbol that is not in the alphabet,
            or either all words or none (but for the empty one) match.
    """
    parser = _Parser(expression, alphabet)
    start = parser.alternatives()
    if parser.place < len(parser.letters):
        parser.refuse("has no opening bracket")
    empty, first, last = start
    # States are subsets of positions (Glushkov); the initial state is the empty subset.
    ids = {0: 0}
    subsets, rows = [0], list[list[int]]()
    for subset in subsets:  # the loop itself appends to it
        reached = first if subset == 0 else 0
        for position in _bits(subset):
            reached |= parser.following[position]
        row = []
        for symbol in parser.alphabet:
            # If no position is reached, no word goes on. This state differs from the initial one,
            # whose subset is empty, too.
            after = (reached & parser.places[symbol]) or _NOWHERE
            if after not in ids:
                ids[after] = len(subsets)
                subsets.append(after)
            row.append(ids[after])
        rows.append(row)
        if len(subsets) > MAX_STATES:
            raise ValueError(
                f"regex: got {shown(expression)}, expected at most {MAX_STATES} states"
            )
    accepting = [
        empty if subset == 0 else subset != _NOWHERE and bool(subset & last) for subset in subsets
    ]
    if len({accepting[state] for row in rows for state in row}) < 2:
        which = "every" if accepting[rows[0][0]] else "no"
        raise ValueError(
            f"regex: got {shown(expression)}, which {which} word matches, expected something to "
            "learn"
        )
    transition, outputs, _ = smallest(np.array(rows), np.array(accepting, np.int64))
    states = tuple(map(tuple, transition.tolist()))
    return Table(states, tuple(outputs.tolist()), 0, tuple(parser.alphabet), ("0", "1"))


def _bits(number: int) -> Iterator[int]:
    """Yield the positions of the ones of a number, the lowest first."""
    while number > 0:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


@dataclass
class _Parser:
    """A parser that reads an expression from left to right; every letter of it is a position.

    `places` holds the positions at which each symbol may be, and `following` the positions that may
    follow each position.
    """

    expression: str
    given: str | None
    place: int = 0
    depth: int = 0
    places: dict[str, int] = field(default_factory=dict)
    following: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for option, value in {"regex": self.expression, "alphabet": self.given or ""}.items():
            if not isinstance(value, str):
                raise TypeError(f"{option}: got {shown(value)}, expected text: quote it")
        letters = len(self.expression)
        check(letters <= MAX_LETTERS, "regex", letters, f"at most {MAX_LETTERS} letters")
        self.letters = self._letters()
        own = {letter for letter, escaped in self.letters if escaped or letter not in _SPECIAL}
        alphabet = "".join(sorted(own)) if self.given is None else self.given
        if len(set(alphabet)) < len(alphabet) or any(letter.isspace() for letter in alphabet):
            raise ValueError(f"alphabet: got {shown(alphabet)}, expected different letters")
        if not alphabet:
            raise ValueError(
                f"regex: got {shown(self.expression)} without symbols, expected an alphabet"
            )
        if own - set(alphabet):
            raise ValueError(
                f"alphabet: got {shown(alphabet)}, expected also {min(own - set(alphabet))!r} of "
                f"regex {shown(self.expression)}"
            )
        self.alphabet = alphabet
        self.places = dict.fromkeys(alphabet, 0)

    def _letters(self) -> list[tuple[str, bool]]:
        """Return the letters of the expression, and whether each has a backslash before it."""
        letters, escaped = list[tuple[str, bool]](), False
        for letter in self.expression:
            if letter == "\\" and not escaped:
                escaped = True
            elif not letter.isspace():
                letters.append((letter, escaped))
                escaped = False
        if escaped:
            raise ValueError(
                f"regex: got {shown(self.expression)}, expected a letter after the backslash"
            )
        return letters

    def refuse(self, problem: str) -> None:
        """Raise a `ValueError` that names the problem and the letter that has been reached."""
        there = self.letters[self.place][0] if self.place < len(self.letters) else "the end"
        raise ValueError(f"regex {shown(self.expression)}: {there!r} at {self.place + 1} {problem}")

    def _next(self) -> str:
        """Return the next letter if it is a special one, else an empty text."""
        if self.place == len(self.letters) or self.letters[self.place][1]:
            return ""
        letter = self.letters[self.place][0]
        return letter if letter in _SPECIAL else ""

    def alternatives(self) -> _Part:
        """Read `a|b|...`."""
        empty, first, last = self._sequence()
        while self._next() == "|":
            self.place += 1
            also, more, ends = self._sequence()
            empty, first, last = empty or also, first | more, last | ends
        return empty, first, last

    def _sequence(self) -> _Part:
        empty, first, last = True, 0, 0
        while self.place < len(self.letters) and self._next() not in ("|", ")"):
            also, more, ends = self._repeated()
            self._join(last, more)
            first = first | more if empty else first
            last = last | ends if also else ends
            empty = empty and also
        return empty, first, last

    def _repeated(self) -> _Part:
        empty, first, last = self._single()
        while (sign := self._next()) and sign in "*+?":
            self.place += 1
            if sign in "*+":
                self._join(last, first)
            empty = empty or sign in "*?"
        return empty, first, last

    def _join(self, before: int, after: int) -> None:
        for position in _bits(before):
            self.following[position] |= after

    def _single(self) -> _Part:
        special = self._next()
        if special == "(":
            self.place += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.refuse(f"is inside more than {MAX_DEPTH} brackets")
            part = self.alternatives()
            if self._next() != ")":
                self._refuse_unsupported()
                self.refuse("comes where a closing bracket is missing")
            self.place += 1
            self.depth -= 1
            return part
        self._refuse_unsupported()
        if special and special not in "[.":
            self.refuse("has nothing before it to repeat" if special in "*+?" else "is misplaced")
        if special == ".":
            return self._position(set(self.alphabet))
        if special != "[":
            return self._position({self.letters[self.place][0]})
        chosen = set[str]()
        self.place += 1
        while self._next() != "]":
            if self.place == len(self.letters):
                self.refuse("comes where ']' is missing")
            self._refuse_unsupported()
            if self._next():
                self.refuse("needs a backslash before it")
            if self.letters[self.place] == ("-", False):
                self.refuse("is not supported: write out the range, or a backslash before it")
            chosen.add(self.letters[self.place][0])
            self.place += 1
        return self._position(chosen)

    def _refuse_unsupported(self) -> None:
        if (special := self._next()) in _UNSUPPORTED:
            self.refuse(_UNSUPPORTED[special])

    def _position(self, symbols: set[str]) -> _Part:
        here = 1 << len(self.following)
        for symbol in symbols:
            self.places[symbol] |= here
        self.following.append(0)
        self.place += 1
        return False, here, here


def smallest(
    transition: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the states of an automaton that no word tells apart (Moore).

    Args:
        transition: Integer `[states, symbols]`, the next state.
        outputs: Integer `[states]`, the label of each state.

    Returns:
        Transition and outputs of the smallest automaton with these labels, and int `[states]`, the
        state of it that each state has become. They are numbered in the order of the first of each.
    """
    classes = _numbered(outputs)
    while True:
        marks = classes
        for column in transition.T:
            marks = _numbered(marks * len(classes) + classes[column])
        if marks.max() == classes.max():
            break
        classes = marks
    kept = np.unique(classes, return_index=True)[1]
    return classes[transition[kept]], outputs[kept], classes


def _numbered(marks: np.ndarray) -> np.ndarray:
    """Number different marks 0, 1, ... in the order in which they first occur."""
    _, first, numbers = np.unique(marks, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[numbers]
