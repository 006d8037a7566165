"""Reads and writes YAML with the numbers and truth values of YAML 1.2, which people expect.

YAML 1.1, which PyYAML reads, takes 010 for 8, 1:30 for 90, yes for true and 1e3 for text. Here
numbers are decimal, and only true and false are truth values. Everything else, and everything in
quotes, is text. The values of assignments, `field=value`, are read in the same way.
"""

import math
import re
from typing import Any, ClassVar

import yaml

from experiments.reading import ConfigError, Path

_TRUTH = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_REAL = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.?(inf|Inf|INF)|\.?(nan|NaN|NAN)"
)
_MOST_PARTS = 1_000_000
_SHORT = 96  # columns
_RULES = {"bool": _TRUTH, "null": _NULL, "int": _WHOLE, "float": _REAL}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]


class _Dumper(yaml.SafeDumper):
    """Writes YAML, with quotes around text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


class _ShortDumper(_Dumper):
    """Writes each list and each short mapping on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        del flow_style
        return super().represent_sequence(tag, sequence, flow_style=True)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        del flow_style
        length = len(dump(mapping, default_flow_style=True, width=math.inf))
        return super().represent_mapping(tag, mapping, flow_style=length < _SHORT)


def _real(loader: _Loader, node: Any) -> float:
    text = loader.construct_scalar(node)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _whole(loader: _Loader, node: Any) -> int:
    return int(loader.construct_scalar(node))


for _name, _pattern in _RULES.items():
    _all_of_it = re.compile(f"(?:{_pattern.pattern})$")
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _all_of_it, None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:merge", _Loader.construct_yaml_str)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def load(text: str) -> Any:
    """Reads a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, is nested too deeply, or becomes too large because it
            repeats parts of itself.
    """
    try:
        value = yaml.load(text, _Loader)
        _check_size(value)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise yaml.YAMLError(str(error)) from None
    return value


def _check_size(value: Any) -> None:
    """Refuses a value with too many parts, where repeated parts count each time."""
    left, open_parts = _MOST_PARTS, [value]
    while open_parts:
        part = open_parts.pop()
        left -= 1
        if left < 0:
            raise yaml.YAMLError(f"it has over {_MOST_PARTS} parts, counting repeated ones")
        if isinstance(part, dict):
            open_parts += part.values()
        elif isinstance(part, list):
            open_parts += part


def load_value(text: str) -> Any:
    """Reads one value from a command line as YAML, but without comments, anchors and tags.

    Raises:
        yaml.YAMLError: see `load`; or the text has a comment, an anchor or a tag, which on a
            command line is surely a mistake.
    """
    tokens = list(yaml.scan(text, _Loader))
    for token in tokens:
        if isinstance(token, yaml.AnchorToken | yaml.TagToken):
            raise yaml.YAMLError(f"put it in quotes: {text.strip()[:1]} is a mark of YAML's")
    end = max((t.end_mark.index for t in tokens if not isinstance(t, _ENDS)), default=0)
    if text[end:].strip():
        raise yaml.YAMLError("put it in quotes: # begins a comment")
    return load(text)


_ENDS = (yaml.StreamEndToken, yaml.BlockEndToken)


def parse_assignment(assignment: str) -> tuple[Path, Any]:
    """Reads the path and the value of a field from `path=value`.

    Raises:
        ConfigError: the text is not of that form.
    """
    path, text = split_assignment(assignment)
    try:
        return path, load_value(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{assignment!r}: {text!r} is not a YAML value: {error}") from None


def split_assignment(assignment: str) -> tuple[Path, str]:
    """Splits `path=value` into the path of a field and the text of its value.

    Raises:
        ConfigError: the text is not of that form.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise ConfigError(f"{assignment!r}: expected field=value, such as training.steps=500")
    return tuple(path.strip().split(".")), text


def dump(value: Any, **options: Any) -> str:
    """Writes a value as YAML; mappings keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)


def dump_short(value: Any) -> str:
    """Writes a value as YAML with few lines: each list and each short mapping takes one line."""
    return yaml.dump(value, Dumper=_ShortDumper, sort_keys=False, width=_SHORT + 40)
