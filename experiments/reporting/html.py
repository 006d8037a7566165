"""HTML from functions: everything that is not made here is escaped."""

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable["Content"]


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """An element.

    Args:
        name: of the element.
        *content: text, which is escaped, elements, or lists of these.
        **attributes: `class_` stands for class, `aria_label` for aria-label.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: Content) -> Markup:
    """Content one after the other."""
    return Markup("".join(map(_markup, content)))


def _markup(content: Content) -> str:
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return html.escape(content)
    return "".join(map(_markup, content))


def table(
    headers: Sequence[str],
    rows: Iterable[Iterable[Content]],
    *,
    words: int = 1,
    prose: bool = False,
) -> Markup:
    """A table in a box that scrolls by itself where it is too wide.

    Args:
        headers: of the columns.
        rows: of cells.
        words: how many of the first columns hold words; the others hold numbers.
        prose: whether the last column holds sentences, which may be broken.
    """
    kinds = ["words" if index < words else "number" for index in range(len(headers))]
    if prose:
        kinds[-1] = "words prose"
    head = [
        tag("th", text, scope="col", class_=kind) for text, kind in zip(headers, kinds, strict=True)
    ]
    body = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    inner = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0")
