"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """`nearest: a, b, c`, of the known names."""
    name = name[:100]  # nobody meant more
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return f"nearest: {', '.join(close)}" if close else "there are none"
