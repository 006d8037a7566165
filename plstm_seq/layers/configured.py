"""Modules that keep their config, and what of a config a compiled program depends on."""

import dataclasses
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from flax import nnx

from plstm_seq.layers.initializers import Initializer

C = TypeVar("C")


def structure(config: Any) -> Hashable:
    """Return what is left of a config without the values of its leaves.

    Two configs of equal structure make modules of the same shapes and the same program. They may
    differ in their initialisers, which only fill parameters, and in their `leaf_fields` (but not
    in which of these are None).

    Args:
        config: a frozen dataclass, for instance a `SequenceModelConfig`, or a value in one.

    Returns:
        Something to compare and to hash.

    Example:
        >>> from plstm_seq.layers import structure
        >>> from plstm_seq.layers.transition import Selection
        >>> cold, warm = Selection(dim=3, temperature=0.5), Selection(dim=3, temperature=2.0)
        >>> structure(cold) == structure(warm), structure(cold) == structure(Selection(dim=4))
        (True, False)
    """
    if isinstance(config, Initializer):
        return Initializer
    if dataclasses.is_dataclass(config):
        leaves = getattr(config, "leaf_fields", ())
        fields = ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))
        return type(config), *(
            (name, value is None if name in leaves else structure(value)) for name, value in fields
        )
    return tuple(map(structure, config)) if isinstance(config, tuple) else config


class Kept(Generic[C]):
    """A config that equals every other of the same structure."""

    def __init__(self, config: C):
        self.config = config
        self._structure = structure(config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and self._structure == other._structure

    def __hash__(self) -> int:
        return hash(self._structure)

    def __repr__(self) -> str:
        return repr(self.config)


class Configured(nnx.Module, Generic[C]):
    """A module with a config that sets `self.kept = Kept(config)`.

    So modules that differ in nothing but the values of their leaves have equal graph definitions:
    they share compiled programs, and one program trains them together. A module merged from the
    graph definition of one and the state of another tells the config of the first, and computes
    with the values in its state.
    """

    kept: Kept[C]

    @property
    def config(self) -> C:
        """The config that the module was made from."""
        return self.kept.config
