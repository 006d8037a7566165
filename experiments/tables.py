"""Tables for people, as text, LaTeX and Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.reading import ConfigError

FORMATS = ("table", "csv", "latex", "markdown")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
}


class Table(NamedTuple):
    """A table for people: a header for each column, and rows of cells.

    Attributes:
        headers: the headers of the columns.
        rows: the rows, each with a text per column.
        words: number of the first columns that hold words; the others hold numbers.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int


def to_text(table: Table) -> str:
    """Writes a table as plain text, with words aligned to the left and numbers to the right.

    Example:
        >>> from experiments.tables import Table, to_text
        >>> rows = (("diagonal", "0.5"), ("orthogonal", "1.0"))
        >>> print(to_text(Table(("transition", "accuracy"), rows, words=1)), end="")
        transition  accuracy
        diagonal         0.5
        orthogonal       1.0
    """
    lines = [table.headers, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(f"{_text_row(line, widths, table.words)}\n" for line in lines)


def _text_row(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    padded = (
        cell.ljust(width) if index < words else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def to_latex(table: Table) -> str:
    r"""Writes a table as a LaTeX `tabular` with booktabs rules; needs `\usepackage{booktabs}`.

    Example:
        >>> from experiments.tables import Table, to_latex
        >>> table = Table(("transition", "accuracy"), (("orthogonal", "1.0"),), words=1)
        >>> print(to_latex(table), end="")
        \begin{tabular}{lr}
        \toprule
        transition & accuracy \\
        \midrule
        orthogonal & 1.0 \\
        \bottomrule
        \end{tabular}
    """
    lines = [
        rf"\begin{{tabular}}{{{'l' * table.words}{'r' * (len(table.headers) - table.words)}}}",
        r"\toprule",
        _latex_row(table.headers),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    escaped = ("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells)
    return " & ".join(escaped) + r" \\"


def to_markdown(table: Table) -> str:
    """Writes a table as GitHub's Markdown.

    Example:
        >>> from experiments.tables import Table, to_markdown
        >>> table = Table(("transition", "accuracy"), (("orthogonal", "1.0"),), words=1)
        >>> print(to_markdown(table), end="")
        | transition | accuracy |
        | :-- | --: |
        | orthogonal | 1.0 |
    """
    sides = [":--"] * table.words + ["--:"] * (len(table.headers) - table.words)
    lines = [table.headers, sides, *table.rows]
    return "".join(f"| {' | '.join(map(_markdown_cell, line))} |\n" for line in lines)


def _markdown_cell(cell: str) -> str:
    return cell.replace("\\", r"\\").replace("|", r"\|").replace("\n", " ")


def check_format(name: str) -> None:
    """Refuses a format in which no tables are written.

    Raises:
        ConfigError: the name is none of `FORMATS`.
    """
    if name not in FORMATS:
        raise ConfigError(f"format: got {name!r}, expected one of {', '.join(FORMATS)}")
