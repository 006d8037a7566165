"""Fair comparison: sizes chosen such that settings cost the same.

Another JT means other parameters, another state and other operations. `matched` changes the width
of every model such that one of these costs is that of the first config of its task, to 5 %. Heads,
DK and everything else stay as they are. Where the state does not depend on the width (DK and DV
are both given, as in the recommended models), it is the value features a head, DV, that are solved.
`match_costs` writes the solved sizes into the settings of a sweep.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from experiments import costs
from experiments.config import ExperimentConfig
from experiments.overrides import resolve, short_names, varied_fields
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.values import Setting
from tasks.options import check_choice

Match = Literal["state", "parameters", "flops"]
TOLERANCE = 0.05
_LARGEST = 1 << 16
# How far apart sizes that fit the heads may lie.
_GAP = 512

_Measure = Callable[[ExperimentConfig], float]
_MEASURES: dict[Match, _Measure] = {
    "state": costs.state_size,
    "parameters": costs.parameters,
    "flops": costs.flops_per_token,
}
_UNITS: dict[Match, str] = {
    "state": "numbers of state",
    "parameters": "parameters",
    "flops": "FLOPs a token",
}


class Choice(NamedTuple):
    """The size chosen for one model.

    Attributes:
        config: the config with the chosen size.
        setting: how the model differs from the others, in words.
        field: the field that was changed.
        before: its value in the given config.
        after: the chosen value.
        cost: the cost of the chosen model.
        reference: the cost that it should have.
    """

    config: ExperimentConfig
    setting: str
    field: str
    before: int
    after: int
    cost: float
    reference: float

    @property
    def deviation(self) -> float:
        """How far the cost is from the reference, as a fraction of the reference."""
        return self.cost / self.reference - 1

    def describe(self, match: Match) -> str:
        """In one line."""
        return (
            f"{self.setting}: {self.field.rpartition('.')[2]} {self.before} -> {self.after}, "
            f"{self.cost:,.0f} {_UNITS[match]} ({self.deviation:+.1%})"
        )


def matched(
    configs: Sequence[ExperimentConfig],
    match: str,
    *,
    announce: Callable[[str], None] = lambda _: None,
) -> list[ExperimentConfig]:
    """Changes the sizes of models such that they cost the same, to 5 %.

    Args:
        configs: the configs to compare; the first of each task is the reference of its task, and
            is not changed.
        match: the cost: `state`, `parameters` or `flops`, see `experiments.costs.Costs`.
        announce: called with a line for every model, which says its chosen size and its cost.

    Returns:
        The changed configs, in order.

    Raises:
        ValueError: `match` is none of these, the solved size differs between the configs already,
            or no size comes within 5 %.

    Example:
        >>> from experiments import default_config, override
        >>> from experiments.results import matched
        >>> config = default_config("parity")
        >>> one = override(config, ["transition.dim=1"])
        >>> [found.model.mixer.DV for found in matched([config, one], "state")]
        [4, 12]
    """
    chosen = choices(configs, match)
    kind = _checked(match)
    for line in dict.fromkeys(choice.describe(kind) for choice in chosen):
        announce(line)
    return [choice.config for choice in chosen]


def choices(configs: Sequence[ExperimentConfig], match: str) -> list[Choice]:
    """The sizes that `matched` chooses and their costs; arguments and errors are the same.

    Example:
        >>> from experiments import default_config, override
        >>> from experiments.results import choices
        >>> config = default_config("parity")
        >>> one = override(config, ["transition.dim=1"])
        >>> choices([config, one], "state")[1].describe("state")
        'JT=1: DV 4 -> 12, 192 numbers of state (+0.0%)'
    """
    kind = _checked(match)
    references: dict[str, ExperimentConfig] = {}
    solved: dict[ExperimentConfig, Choice] = {}
    settings = _settings(configs)
    chosen = []
    for config, setting in zip(configs, settings, strict=True):
        reference = references.setdefault(config.task.name, config)
        key = costs.model_key(config)
        if key not in solved:
            solved[key] = _solve(config, reference, kind, setting)
        chosen.append(solved[key]._replace(config=_with_model_of(config, solved[key].config)))
    return chosen


class _Size(NamedTuple):
    """A size that can be solved: its field, and how it is read and set."""

    field: str
    get: Callable[[ExperimentConfig], int | None]
    set: Callable[[ExperimentConfig, int], ExperimentConfig]


def _set_width(config: ExperimentConfig, width: int) -> ExperimentConfig:
    return replace(config, model=replace(config.model, width=width))


def _set_value_features(config: ExperimentConfig, DV: int) -> ExperimentConfig:
    mixer = replace(config.model.mixer, DV=DV)
    return replace(config, model=replace(config.model, mixer=mixer))


_WIDTH = _Size("model.width", lambda config: config.model.width, _set_width)
_VALUES = _Size("model.mixer.DV", lambda config: config.model.mixer.DV, _set_value_features)


def _checked(match: str) -> Match:
    check_choice("match", match, get_args(Match))
    return match  # pyright: ignore[reportReturnType]


def _settings(configs: Sequence[ExperimentConfig]) -> list[str]:
    """What tells each config's task and model from the others, in words."""
    varied = varied_fields(configs, within=("task", "model"))
    names = short_names(varied)
    return [
        ", ".join(f"{names[field]}={value}" for field, value in zip(varied, values, strict=True))
        or "model"
        for values in zip(*varied.values(), strict=True)
    ] or ["model"] * len(configs)


def _with_model_of(config: ExperimentConfig, other: ExperimentConfig) -> ExperimentConfig:
    return replace(config, model=other.model)


def _solve(
    config: ExperimentConfig, reference: ExperimentConfig, match: Match, setting: str
) -> Choice:
    measure, size = _MEASURES[match], _size(config, match)
    before, target = size.get(config), measure(reference)
    if before is None or size.get(reference) != before:
        raise ValueError(
            f"match={match} solves {size.field}: leave it out of what the sweep varies "
            f"(got {size.get(reference)} and {before})"
        )
    if config.model == reference.model:
        return Choice(config, setting, size.field, before, before, measure(config), target)
    sizes = _around(config, size, measure, target)
    after = min(sizes, key=lambda value: abs(sizes[value] - target))
    choice = Choice(
        size.set(config, after), setting, size.field, before, after, sizes[after], target
    )
    if abs(choice.deviation) > TOLERANCE:
        near = " and ".join(f"{value} makes {cost:,.0f}" for value, cost in sorted(sizes.items()))
        raise ValueError(
            f"match={match}: no {size.field} of {setting} comes within {TOLERANCE:.0%} of the "
            f"reference's {target:,.0f} {_UNITS[match]} ({near}); a larger {size.field} in all "
            "settings leaves more to choose from"
        )
    return choice


def _size(config: ExperimentConfig, match: Match) -> _Size:
    """The size to solve: the width, unless the cost does not depend on it."""
    measure = _MEASURES[match]
    if measure(_set_width(config, 2 * config.model.width)) == measure(config):
        return _VALUES
    return _WIDTH


def _around(
    config: ExperimentConfig, size: _Size, measure: _Measure, target: float
) -> dict[int, float]:
    """The costs of the largest size that costs less than the target, and of the next.

    Costs rise with the size. Sizes that the heads do not divide are passed over.
    """

    @functools.cache
    def at(least: int) -> tuple[int, float]:
        error = None
        for value in range(least, least + _GAP):
            try:
                return value, measure(size.set(config, value))
            except ValueError as reason:
                error = reason
        raise ValueError(f"{size.field} from {least} on fits nothing: {error}")

    low, high = 1, 2
    while at(high)[1] < target and high < _LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle)[1] < target:
            low = middle
        else:
            high = middle
    return dict((at(low), at(high)))


def match_costs(
    sweep: Sweep, match: str, *, announce: Callable[[str], None] = lambda _: None
) -> Sweep:
    """The sweep with sizes such that its models cost the same, to 5 %.

    Args:
        sweep: what is compared; its first member is the reference.
        match: `state`, `parameters` or `flops`, see `matched`.
        announce: is told what was chosen, a line a model.

    Returns:
        The same members, each with the size that was solved among its settings: the value of the
        sweep says what was trained.

    Raises:
        ConfigError: a setting is wrong.
        ValueError: see `matched`.
    """
    chosen = choices(sweep.configs(), match)
    for line in dict.fromkeys(choice.describe(match) for choice in chosen):  # pyright: ignore[reportArgumentType]
        announce(line)
    settings = [
        {**_without(setting, choice), choice.field: choice.after}
        for setting, choice in zip(sweep.settings, chosen, strict=True)
    ]
    return replace(sweep, settings=tuple(settings))


def _without(setting: Setting, choice: Choice) -> Setting:
    """The setting without the solved field, by whichever of its names it is set."""
    return {
        name: value
        for name, value in setting.items()
        if ".".join(resolve(choice.config, tuple(name.split(".")))) != choice.field
    }
