"""Makes comparisons fair: chooses the sizes of models so that all settings cost the same.

With another JT, a model has other numbers of parameters, state entries and operations. `matched`
changes the width of every model so that one of these costs is within 5 % of that of the first
config of its task. Heads, DK and everything else stay as they are. If the cost does not depend on
the width, `matched` changes the value features per head, DV, instead; for instance, the state does
not depend on it if DK and DV are both given, as in the recommended models. `match_costs` writes the
chosen sizes into the settings of a sweep.
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
# The largest distance between two sizes that fit the heads.
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
        setting: a text that says how the model differs from the others.
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
        """Describes the choice in one line."""
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
    """Changes the sizes of models so that their costs agree to 5 %.

    Args:
        configs: the configs to compare; the first of each task is the reference of its task, and
            is not changed.
        match: the cost: `state`, `parameters` or `flops`, see `experiments.costs.Costs`.
        announce: called with a line for every model, which says its chosen size and its cost.

    Returns:
        The changed configs, in order.

    Raises:
        ValueError: `match` is none of these, the size to choose differs between the given configs,
            or no size brings the cost within 5 %.

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
    """Returns the sizes that `matched` chooses and their costs, for the same arguments.

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
    """A size that can be chosen: its field, and the functions that read and set it."""

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
    """Returns for each config a text that tells its task and model from the others."""
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
    """Returns the size to choose: the width, or DV if the cost does not depend on the width."""
    measure = _MEASURES[match]
    if measure(_set_width(config, 2 * config.model.width)) == measure(config):
        return _VALUES
    return _WIDTH


def _around(
    config: ExperimentConfig, size: _Size, measure: _Measure, target: float
) -> dict[int, float]:
    """Returns the costs of the two sizes around the target cost.

    These are the largest size that costs less than the target, and the next one. Costs rise with
    the size. Sizes that do not fit the number of heads are passed over.
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
    """Changes the sizes in a sweep so that the costs of its models agree to 5 %.

    Args:
        sweep: the sweep; the first member of each task is the reference.
        match: `state`, `parameters` or `flops`, see `matched`.
        announce: called with a line for every model, which says its chosen size and its cost.

    Returns:
        A sweep with the same members, whose settings include the chosen sizes.

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
    """Removes the field of a choice from a setting, which may name it in full or in short."""
    return {
        name: value
        for name, value in setting.items()
        if ".".join(resolve(choice.config, tuple(name.split(".")))) != choice.field
    }
