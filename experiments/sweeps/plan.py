"""Expands a sweep into its members with their names, and into groups that share a program."""

import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx

from experiments.config import ConfigError, ExperimentConfig, to_document
from experiments.files import text_checksum
from experiments.overrides import override, resolve, sets_kind, short_names, value_at
from experiments.problems import problem_of
from experiments.problems.base import shapes_of
from experiments.run import new_model
from experiments.sweeps.sweep import Sweep
from plstm_seq.layers.configured import structure
from plstm_seq.ops.device import UnsupportedError, check_runs_here, for_the_default_device
from plstm_seq.training.loss import score

_ABSENT = object()


@dataclass(frozen=True)
class MemberPlan:
    """A member of a sweep.

    Attributes:
        name: the name of its folder.
        config: its config.
        varied: the values of the fields that differ between members, by short name.
        group: the name of its group.
    """

    name: str
    config: ExperimentConfig
    varied: Mapping[str, Any]
    group: str


@dataclass(frozen=True)
class GroupPlan:
    """Members that are trained by one program.

    Attributes:
        name: `g00`, `g01`, ... in the order of their first members.
        members: its members, in the order of the sweep.
        memory_bytes: an estimate of the memory that training them at once takes, see
            `member_bytes`; None: it was not estimated.
    """

    name: str
    members: tuple[MemberPlan, ...]
    memory_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """All members and groups of a sweep.

    Attributes:
        members: all members, in the order of the sweep.
        groups: all groups, in the order of their names.
    """

    members: tuple[MemberPlan, ...]
    groups: tuple[GroupPlan, ...]

    def group(self, name: str) -> GroupPlan:
        """Returns a group by its name.

        Raises:
            ConfigError: there is no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise ConfigError(
            f"no group {name!r}; there are {self.groups[0].name} to {self.groups[-1].name}"
        )


def plan(sweep: Sweep, *, memory: bool = False) -> Plan:
    """Expands a sweep into its members, and puts those that one program can train into a group.

    Args:
        sweep: the sweep; the same sweep always gives the same names.
        memory: whether the memory of each group is estimated, which traces its model once.

    Raises:
        ConfigError: a field is unknown, a value is wrong, or two members are the same.

    Example:
        >>> from experiments import default_config
        >>> from experiments.sweeps import GroupPlan, MemberPlan, Plan, plan, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["width=32,64", "seed=0..1"])
        >>> expanded: Plan = plan(sweep)
        >>> group: GroupPlan = expanded.group("g00")
        >>> member: MemberPlan = group.members[1]
        >>> member.name, member.varied, len(expanded.groups)
        ('width=32,seed=1', {'width': 32, 'seed': 1}, 2)
    """
    configs = sweep.configs()
    varied = _varied(sweep, configs)
    _refuse_twins(configs, varied)
    groups: dict[Hashable, str] = {}
    members = []
    for name, config, values in zip(member_names(varied), configs, varied, strict=True):
        group = groups.setdefault(group_key(config), f"g{len(groups):02d}")
        members.append(MemberPlan(name, config, values, group))
    return Plan(
        tuple(members),
        tuple(_group(name, members, memory=memory) for name in groups.values()),
    )


def _group(name: str, members: Sequence[MemberPlan], *, memory: bool) -> GroupPlan:
    group = GroupPlan(name, tuple(member for member in members if member.group == name), None)
    if not memory:
        return group
    return replace(group, memory_bytes=len(group.members) * member_bytes(group.members[0].config))


def _varied(sweep: Sweep, configs: Sequence[ExperimentConfig]) -> list[dict[str, Any]]:
    """Returns for each member the set fields that differ between members, by short name."""
    members = [_values(*pair) for pair in zip(sweep.settings, configs, strict=True)]
    fields = dict.fromkeys(field for member in members for field in member)
    names = short_names(
        field
        for field in fields
        if any(m.get(field, _ABSENT) != members[0].get(field, _ABSENT) for m in members)
    )
    return [{name: m[field] for field, name in names.items() if field in m} for m in members]


def _values(setting: Mapping[str, Any], config: ExperimentConfig) -> dict[str, Any]:
    """Returns the values that a setting sets, by dotted path, as a member's document holds them."""
    values: dict[str, Any] = {}
    document = to_document(config)
    for given, assigned in setting.items():
        path = resolve(config, tuple(given.split(".")))
        if sets_kind(config, (path, assigned)) and path[-1] != "kind":
            path = (*path, "kind")
        field = ".".join(path)
        if field in values:
            raise ConfigError(f"{given} is set twice, by two of its names: {field}")
        values[field] = value_at(document, path)
    return values


def _refuse_twins(configs: Sequence[ExperimentConfig], varied: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[ExperimentConfig, int] = {}
    for index, config in enumerate(configs):
        first = seen.setdefault(config, index)
        if first < index:
            values = ", ".join(f"{name}={value}" for name, value in varied[index].items())
            raise ConfigError(
                f"members {first + 1} and {index + 1} are the same ({values or 'nothing varies'}): "
                "leave one out"
            )


def group_key(config: ExperimentConfig) -> Hashable:
    """Returns a key that is equal for configs whose runs can be trained by one program.

    Such configs differ only in *leaves*, the fields that become arrays or fill them: the seed, the
    learning rate, the weight decay, and in the model every `Initializer` and the fields that a
    config lists in `leaf_fields`. They may also differ in how they are evaluated. All other fields
    decide shapes and operations.

    Example:
        >>> from experiments import default_config, override
        >>> from experiments.sweeps import group_key
        >>> config = default_config("parity")
        >>> other, wider = override(config, ["seed=5"]), override(config, ["width=32"])
        >>> group_key(config) == group_key(other), group_key(config) == group_key(wider)
        (True, False)
    """
    training = config.training
    return (
        config.task,
        structure(config.model),
        config.dtype,
        replace(training, optimizer=training.optimizer.without_leaves()),
    )


_LONGEST = 120


def member_names(varied: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a different name for each member, which is safe as the name of a folder.

    Args:
        varied: for each member, the values of the fields that vary, by short name.
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
    return text_checksum(json.dumps(values, sort_keys=True, default=str))[:8]


COUNTED = (
    "parameters, gradients, the two moments of Adam and an average if there is one, and what the "
    "backward pass of the longest batch reads, before XLA fuses operations"
)


def member_bytes(config: ExperimentConfig) -> int:
    """Estimates the bytes of memory that training one member takes; members of a group add up.

    This is an upper estimate for choosing a machine; `COUNTED` says what it counts. In training,
    the compiled program decides how many members fit. An implementation that does not run here, as
    in a sweep for a cluster, is replaced by one that does.
    """
    try:
        return _member_bytes(config)
    except UnsupportedError:
        return _member_bytes(override(config, ["mixer.implementation=null"]))


def _member_bytes(config: ExperimentConfig) -> int:
    model = nnx.eval_shape(lambda: new_model(config))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    training = config.training
    problem = problem_of(config.task.make())
    batch = shapes_of(problem, *training.largest_batch)

    def backward(parameters: Any, rest: Any, batch: Any) -> Any:
        def loss(parameters: Any) -> jax.Array:
            merged: Any = nnx.merge(graphdef, parameters, rest, copy=True)
            outputs = merged(batch.inputs)
            return score(outputs, batch.targets, batch.mask, loss=training.loss)[0]

        return jax.vjp(loss, parameters)[1]  # its leaves are the arrays that it reads

    copies = 4 if training.average is None else 5
    with for_the_default_device():
        program = jax.make_jaxpr(backward)(parameters, rest, batch)
    check_runs_here(program)
    return copies * _bytes(parameters) + _bytes(program.out_avals)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
