"""Configs in files: YAML for people, and the complete config that a run is loaded from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from experiments import scalars
from experiments.config import (
    ConfigError,
    ExperimentConfig,
    brief_document,
    from_document,
    to_document,
)
from experiments.files import SEALED, DamagedError, seal, text_checksum, unseal
from plstm_seq.files import write_whole

COMPLETE, READABLE = "config.json", "config.yaml"
_HEADER = f"# What differs from the defaults of the classes; {COMPLETE} is loaded. Checksum: "
# The header of older versions, whose YAML file held every field.
_OLD_HEADER = f"# For the reader: what is loaded is {COMPLETE}"


def write_config(config: ExperimentConfig, path: str | Path) -> None:
    """Writes a config with all its fields as YAML; `read_config` reads it.

    Example:
        >>> from experiments import default_config, read_config, write_config
        >>> config = default_config("parity")
        >>> write_config(config, "parity.yaml")
        >>> read_config("parity.yaml") == config
        True
    """
    write_whole(Path(path), scalars.dump(to_document(config)))


def read_config(
    path: str | Path, options: Mapping[str, Any] = MappingProxyType({})
) -> ExperimentConfig:
    r"""Reads a config from YAML, or the `config.json` of a run.

    A field that a YAML file leaves out takes its default in this version.

    Args:
        path: the file.
        options: options of the task, in place of those in the file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is not a config.
        DamagedError: the file is a `config.json` that was changed after it was written.

    Example:
        >>> from experiments import read_config
        >>> _ = Path("parity.yaml").write_text("task: {name: parity}\nmodel: {width: 32}\n")
        >>> config = read_config("parity.yaml")
        >>> config.task.name, config.model.width
        ('parity', 32)
    """
    try:
        document = scalars.load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if isinstance(document, Mapping) and document.keys() == SEALED:
        document = unseal(Path(path))
    if options and isinstance(document, Mapping) and isinstance(document.get("task"), Mapping):
        document = {**document, "task": {**document["task"], **options}}
    try:
        return from_document(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def store_config(config: ExperimentConfig, folder: Path) -> None:
    """Writes a config into the folder of its run.

    `stored_config` loads `config.json`, which holds every field and a checksum. `config.yaml` is
    for people, and holds the fields that differ from the defaults.
    """
    write_whole(folder / COMPLETE, seal(to_document(config)))
    text = brief_yaml(config)
    write_whole(folder / READABLE, f"{_HEADER}{text_checksum(text)}\n{text}")


def brief_yaml(config: ExperimentConfig) -> str:
    """Writes the fields that differ from the defaults as short YAML."""
    return scalars.dump_short(brief_document(config))


def has_config(folder: Path) -> bool:
    """Returns whether a folder holds the config of a run."""
    return (folder / COMPLETE).is_file() or (folder / READABLE).is_file()


def stored_config(folder: Path) -> ExperimentConfig:
    """Reads the config that `store_config` or an older version wrote.

    Raises:
        DamagedError: a file is damaged, or the two files differ; the message names the file.
        ConfigError: the config holds something that this version does not know.
    """
    complete, readable = folder / COMPLETE, folder / READABLE
    if not complete.exists():
        return _unsealed_config(readable)
    document = unseal(complete)
    try:
        config = from_document(document)
    except ConfigError as error:
        raise ConfigError(f"{complete}: {error}") from None
    if readable.exists() and (reason := _why_it_differs(readable, config)) is not None:
        remedy = f"delete it to go on with what the run was made of, {complete.name}"
        raise DamagedError(readable, reason, remedy)
    return config


def _why_it_differs(readable: Path, config: ExperimentConfig) -> str | None:
    """Returns why `config.yaml` is not what was written, or None if it is."""
    try:
        text = readable.read_text(encoding="utf-8")
        document = scalars.load(text)
        if not isinstance(document, Mapping):
            return "it is no mapping"
        complete = text.startswith(_OLD_HEADER)
        if complete:
            document = to_document(from_document(document))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ConfigError) as error:
        return str(error)
    known = to_document(config)
    differing = _first_difference(document, known)
    if differing is None and complete:
        differing = _first_difference(known, document)
    if differing is not None:
        return f"{differing} is not what {COMPLETE} says"
    first, _, rest = text.partition("\n")
    if first.startswith(_OLD_HEADER) or first == _HEADER + text_checksum(rest):
        return None
    return "its checksum is another"


def _unsealed_config(readable: Path) -> ExperimentConfig:
    """Reads the `config.yaml` of an older version, which holds every field and no checksum."""
    remedy = "restore the file from a copy"
    try:
        text = readable.read_text(encoding="utf-8")
        document = scalars.load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DamagedError(readable, error, remedy) from None
    if text.startswith((_HEADER, _OLD_HEADER)):
        raise DamagedError(readable.with_name(COMPLETE), "it is missing", remedy)
    config = read_config(readable)
    # A file that lost its end lacks the last of these fields.
    fields = {field.name for field in dataclasses.fields(ExperimentConfig)} - {"initial_run"}
    if missing := sorted(fields - document.keys()):
        raise DamagedError(readable, f"it lacks {', '.join(missing)}", remedy)
    return config


def _first_difference(given: Any, complete: Any, path: str = "") -> str | None:
    """Returns the dotted path of the first field of `given` that `complete` lacks or has otherwise.

    Returns None if there is no such field.
    """
    if not isinstance(given, Mapping) or not isinstance(complete, Mapping):
        return None if given == complete else path
    for name in given:
        where = f"{path}.{name}" if path else str(name)
        if name not in complete:
            return where
        if (found := _first_difference(given[name], complete[name], where)) is not None:
            return found
    return None
