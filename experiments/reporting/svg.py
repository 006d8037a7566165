"""Figures as SVG inside a page."""

import html
import io
import re

from matplotlib.figure import Figure

from experiments.plotting import styled
from experiments.reporting.html import Markup

_SIZE = re.compile(r'\s(?:width|height)="[\d.]+pt"')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
# Matplotlib's rule for `*` would reach the whole page; style.css has it for figures.
_STYLE = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)
_NAME = re.compile(r'(\bid="|url\(#|href="#)')


def inline(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an `<svg>` element.

    Args:
        figure: any.
        name: goes before the names of its parts, which have to be unique in a page.
        description: for those who do not see it.
    """
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = _STYLE.sub("", _METADATA.sub("", file.getvalue()))
    opening, rest = text[text.index("<svg") :].split(">", 1)
    rest = _NAME.sub(rf"\g<1>{name}-", rest)
    label = html.escape(description)
    return Markup(f'{_SIZE.sub("", opening)} role="img" aria-label="{label}">{rest.strip()}')
