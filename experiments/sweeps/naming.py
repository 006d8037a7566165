"""Names of members, from what varies between them: `JT=2,seed=0,learning_rate=0.001`."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 120


def member_names(varied: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each member, safe as that of a folder, and no two alike.

    Args:
        varied: of each member, the values of what varies, by short name.
    """
    names = [",".join(f"{name}={_text(value)}" for name, value in v.items()) for v in varied]
    names = [name or "only" for name in names]
    taken = Counter(name.lower() for name in names)
    return [
        name
        if taken[name.lower()] == 1 and len(name) <= _LONGEST
        else f"{name[:_LONGEST]}-{_hash(values)}"
        for name, values in zip(names, varied, strict=True)
    ]


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, dict):
        kind = [value["kind"]] if "kind" in value else []
        others = [other for name, other in value.items() if name != "kind"]
        return "-".join(map(_text, [*kind, *others]))
    if isinstance(value, list):
        return "-".join(map(_text, value)) or "none"
    return re.sub(r"[^\w.+-]+", "-", str(value), flags=re.ASCII).strip("-") or "none"


def _hash(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
