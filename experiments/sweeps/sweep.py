"""The value of a sweep, in Python and in YAML: a config, and the settings of its members."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments import config as configs
from experiments import scalars
from experiments.config import ConfigError, ExperimentConfig
from experiments.files import DamagedError, text_checksum
from experiments.overrides import assign, sets_kind
from experiments.reading import read
from experiments.sweeps.values import (
    COMBINATIONS,
    Setting,
    parse_word,
    product,
    read_values,
    vary,
    zip_together,
)
from tasks.options import shown

MEMBERS = "members"
_SEAL = "# sha256 of what follows: "


@dataclass(frozen=True)
class Sweep:
    """Many runs that differ in some fields of their config.

    Attributes:
        base: the config that the members share.
        settings: for each member, the fields that it changes and their new values. Fields are named
            as in `override`.

    Example:
        >>> from experiments import default_config
        >>> from experiments.sweeps import Sweep, product, vary
        >>> settings = product(vary("transition.dim", [1, 2]), vary("seed", range(2)))
        >>> sweep = Sweep(default_config("parity"), settings)
        >>> [(config.model.mixer.transition.dim, config.seed) for config in sweep.configs()]
        [(1, 0), (1, 1), (2, 0), (2, 1)]
    """

    base: ExperimentConfig
    settings: tuple[Setting, ...]

    def __post_init__(self):
        try:
            read(tuple[dict[str, Any], ...], self.settings)
        except ConfigError:
            raise ConfigError(
                f"settings: got {shown(self.settings)}, expected a list of settings, such as "
                "product(vary(...), vary(...))"
            ) from None
        object.__setattr__(self, "settings", tuple(dict(setting) for setting in self.settings))
        if not self.settings:
            raise ConfigError("a sweep needs one member or more: let a field vary, as seed=0..7")

    def configs(self) -> list[ExperimentConfig]:
        """Returns the config of each member.

        Raises:
            ConfigError: a field is unknown or has a wrong value.
        """
        return [
            assign(self.base, [(tuple(field.split(".")), value) for field, value in items.items()])
            for items in self.settings
        ]


def sweep_of_words(
    base: ExperimentConfig, words: Iterable[str], zipped: Sequence[Sequence[str]] = ()
) -> Sweep:
    """Returns the sweep of a command line: every combination of the values of its fields.

    Args:
        base: the config that the members share.
        words: a word `field=values` for each field, see `parse_word`. A field with one value
            becomes part of the base, unless a kind varies, for which the field may not exist.
        zipped: groups of names of fields that change together instead of being combined.

    Raises:
        ConfigError: a word is wrong, or a zipped field has no word.

    Example:
        >>> from experiments import default_config
        >>> from experiments.sweeps import sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["width=32", "seed=0..1"])
        >>> sweep.base.model.width, sweep.settings
        (32, ({'seed': 0}, {'seed': 1}))
    """
    values: dict[str, list[Any]] = {}
    for field, given in map(parse_word, words):
        if field in values:
            raise ConfigError(f"{field} is set twice: give all its values in one word")
        values[field] = given
    return _combine(base, values, zipped)


def _combine(
    base: ExperimentConfig, values: dict[str, list[Any]], zipped: Sequence[Sequence[str]]
) -> Sweep:
    names = [name for group in zipped for name in group]
    for name in names:
        if name not in values:
            raise ConfigError(
                f"--zip: {name!r} is not among the fields that are set: {_of(values)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"--zip: {name!r} is named twice")
    fixed = {} if _kind_varies(base, values) else _fixed(values)
    factors: dict[str, list[Setting]] = {}
    for field, given in values.items():
        group = next((group for group in zipped if field in group), None)
        if group is not None:
            # The group takes the place of its first field.
            if not any(name in factors for name in group):
                factors[field] = zip_together(*(vary(name, values[name]) for name in group))
        elif field not in fixed:
            factors[field] = vary(field, given)
    base = assign(base, [(tuple(field.split(".")), value) for field, value in fixed.items()])
    return Sweep(base, tuple(product(*factors.values())))


def _fixed(values: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {field: given[0] for field, given in values.items() if len(given) == 1}


def _kind_varies(base: ExperimentConfig, values: Mapping[str, list[Any]]) -> bool:
    """Returns whether the kind of a field varies.

    Fields with one value then stay in the settings, as not every kind may have them.
    """
    return any(
        len(given) > 1 and any(sets_kind(base, (tuple(field.split(".")), v)) for v in given)
        for field, given in values.items()
    )


def _of(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"


def to_document(sweep: Sweep) -> dict[str, Any]:
    """Turns a sweep into a dictionary that can be written as YAML."""
    return {"base": configs.to_document(sweep.base), MEMBERS: [dict(s) for s in sweep.settings]}


def from_document(document: Any) -> Sweep:
    """Returns the sweep that a document describes.

    Args:
        document: a mapping with `base`, a config in which fields may be left out, and either
            `members`, a list of settings, or `product`, `zip` or `chain` as in `read_values`.

    Raises:
        ConfigError: the document does not describe a sweep, or a field of it is wrong.
    """
    if not isinstance(document, Mapping) or "base" not in document:
        raise ConfigError("a sweep needs 'base', a config: base: {task: {name: parity}}")
    rest = {name: value for name, value in document.items() if name != "base"}
    unknown = [name for name in rest if name not in (*COMBINATIONS, MEMBERS)]
    if unknown or not rest or (MEMBERS in rest and len(rest) > 1):
        raise ConfigError(
            f"beside 'base' a sweep has product, zip or chain, or else {MEMBERS}; "
            f"got {_of(map(str, rest))}"
        )
    base = configs.from_document(document["base"])
    return Sweep(base, rest[MEMBERS] if MEMBERS in rest else tuple(read_values(rest)))


def to_yaml(sweep: Sweep) -> str:
    """Writes a sweep as YAML, with one line per member."""
    document = to_document(sweep)
    base = scalars.dump({"base": document["base"]})
    lines = [
        "- " + scalars.dump(setting, default_flow_style=True, width=10**6)
        for setting in document[MEMBERS]
    ]
    return f"{base}{MEMBERS}:\n{''.join(lines)}"


def sealed_yaml(sweep: Sweep) -> str:
    """Writes a sweep as `to_yaml`, after a line with a checksum; `stored_sweep` reads it."""
    text = to_yaml(sweep)
    return f"{_SEAL}{text_checksum(text)}\n{text}"


def stored_sweep(path: Path) -> Sweep:
    """Reads the sweep of a sweep's folder.

    The file of an older version has no checksum, and is taken as it is if it can be read.

    Raises:
        DamagedError: the file cannot be read, or was changed after it was written.
        ConfigError: the file holds something that this version does not know.
    """
    remedy = "restore it from a copy; a changed sweep takes a new --name with --config"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(path, error, remedy) from None
    first, _, rest = text.partition("\n")
    if first.startswith(_SEAL) and first.removeprefix(_SEAL) != text_checksum(rest):
        raise DamagedError(path, "its checksum is another", remedy)
    return read_sweep(path)


def read_sweep(path: str | Path) -> Sweep:
    r"""Reads a sweep from YAML.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not hold a sweep.

    Example:
        >>> import tempfile
        >>> from experiments.sweeps import read_sweep
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "sweep.yaml")
        ...     _ = file.write_text("base: {task: {name: parity}}\nproduct: {seed: 0..7}\n")
        ...     sweep = read_sweep(file)
        >>> sweep.base.task.name, len(sweep.settings)
        ('parity', 8)
    """
    try:
        return from_document(scalars.load(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from None
