"""The models that a protocol is run with: a mixer by its kind, and fields that are set in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.config import ConfigError, ExperimentConfig, default_config, to_document
from experiments.overrides import assign, default_fields, kinds_at, parse_assignment, resolve
from experiments.protocols.protocol import Protocol
from tasks.base import nearest

PLSTM = "plstm"
_MIXER = ("model", "mixer")
# A comma that ends a field's value: the next field follows.
_BETWEEN_FIELDS = re.compile(r",(?=[\w.]+=)")

Pairs = Sequence[tuple[tuple[str, ...], Any]]


@dataclass(frozen=True)
class Model:
    """A model of a protocol.

    Attributes:
        text: as it was asked for: `plstm,transition.dim=4`.
        name: what of it stands before the fields.
        mixer: the kind of mixer; None: that of the task's default config, which is pLSTM.
        fields: that the protocol sets in it.
        words: fields that whoever runs it sets.
    """

    text: str
    name: str
    mixer: str | None
    fields: Mapping[str, Any]
    words: Pairs


def mixers(protocol: Protocol) -> list[str]:
    """What `--model` may name beside the protocol's own: mixers of what reads its tasks."""
    return [PLSTM, *(kind for kind in _kinds(protocol) if kind != PLSTM)]


def _kinds(protocol: Protocol) -> dict[str, type]:
    task = next(iter(protocol.tasks.values()))
    config = default_config(task.name, **task.options)
    return kinds_at(_MIXER, {"model": {"kind": config.model.kind}})


def model(protocol: Protocol, text: str, words: Sequence[str] = ()) -> Model:
    """The model that a text asks for.

    Args:
        protocol: whose models have names of their own beside the mixers.
        text: `NAME`, or `NAME,field=value,...`.
        words: further `field=value`; they belong to the model's name, too.

    Raises:
        ConfigError: there is no such model, or a field has no value.
    """
    name, between, rest = text.partition(",")
    inner = _BETWEEN_FIELDS.split(rest) if between else []
    known = list(dict.fromkeys([*mixers(protocol), *protocol.models]))
    if name not in known:
        raise ConfigError(f"{protocol.name} has no model {name!r}; {nearest(name, known)}")
    fields = dict(protocol.models.get(name, {}))
    mixer = str(fields.pop("mixer", name))
    if mixer not in mixers(protocol):
        raise ConfigError(
            f"{protocol.file}: models.{name}.mixer: unknown kind {mixer!r}; "
            f"{nearest(mixer, mixers(protocol))}"
        )
    assignments = (*inner, *words)
    return Model(
        ",".join((name, *assignments)),
        name,
        None if mixer == PLSTM else mixer,
        fields,
        tuple(map(parse_assignment, assignments)),
    )


def with_mixer(config: ExperimentConfig, mixer: str | None) -> ExperimentConfig:
    """The config with another kind of mixer, in its default sizes."""
    return config if mixer is None else assign(config, [(_MIXER, mixer)])


def known_sizes(config: ExperimentConfig, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some fields that a config has.

    Raises:
        ConfigError: a field is one that no mixer has, either.
    """
    document = to_document(config)
    classes = kinds_at(_MIXER, document).values()
    elsewhere = {field for cls in classes for field in default_fields(cls)}
    kept = {}
    for name, value in sizes.items():
        try:
            resolve(document, tuple(name.split(".")))
        except ConfigError:
            if name not in elsewhere:
                raise
        else:
            kept[name] = value
    return kept
