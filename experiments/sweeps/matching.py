"""Members that cost the same: sizes solved, and written into a sweep's settings."""

from collections.abc import Callable
from dataclasses import replace

from experiments.config import to_document
from experiments.overrides import resolve
from experiments.results.matching import Choice, choices
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.values import Setting


def match_costs(
    sweep: Sweep, match: str, *, announce: Callable[[str], None] = lambda _: None
) -> Sweep:
    """The sweep with sizes such that its models cost the same, to 5 %.

    Args:
        sweep: what is compared; its first member is the reference.
        match: `state`, `parameters` or `flops`, see `experiments.results.matching.matched`.
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
    document = to_document(choice.config)
    return {
        name: value
        for name, value in setting.items()
        if ".".join(resolve(document, tuple(name.split(".")))) != choice.field
    }
