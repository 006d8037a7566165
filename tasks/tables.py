"""Tables of automata, and the text files they are written in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

from tasks.base import shown, some


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
        refuse(header, f"symbols must differ, got {some(symbols)}")
    if not rows:
        refuse(header, "expected a line for each state below")
    states: dict[str, int] = {}
    labels: dict[str, int] = {}
    for number, words in rows:
        if len(words) != len(symbols) + 2:
            refuse(
                number,
                f"expected a state, its label and {len(symbols)} next states; got {len(words)} "
                f"words: {some(words)}",
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
