"""What `sweep` does before the functions that it wraps."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments import scalars
from experiments.commands import choose_config
from experiments.config import ConfigError
from experiments.running import check_trains
from experiments.sweeps.folder import SWEEP
from experiments.sweeps.plan import plan
from experiments.sweeps.sweep import Sweep, read_sweep, sweep_of_words
from experiments.sweeps.words import parse_word
from plstm_seq.ops.choice import UnsupportedError


def choose_sweep(
    task: str | None, words: Sequence[str], file: Path | None, zipped: Sequence[str]
) -> Sweep:
    """The sweep that the arguments of `sweep` ask for.

    Args:
        task: a task, or the first word.
        words: `field=values` each.
        file: a sweep or a config, as YAML.
        zipped: names of fields that change together, separated by commas.

    Raises:
        ConfigError: the arguments do not go together, or one is wrong.
    """
    if task is not None and "=" in task:
        task, words = None, [task, *words]
    if file is not None and _is_sweep(file):
        if words or zipped:
            raise ConfigError(
                f"{file} is a sweep: write into it what varies; fields go with a task or a config"
            )
        sweep = read_sweep(file)
        if task not in (None, sweep.base.task.name):
            raise ConfigError(f"{file} is for task {sweep.base.task.name!r}, not {task!r}")
        return sweep
    ours = [word for word in words if _decides(word)]
    base = choose_config(task, ours, file, None, resume=False)
    return sweep_of_words(base, words, [_fields(text) for text in zipped])


def check_members(sweep: Sweep, folder: Path | None, executor: str) -> None:
    """Refuses, before a folder is made, a sweep of which a group cannot be trained.

    Args:
        sweep: what is to be trained.
        folder: where; if it is there already, nothing is left to refuse.
        executor: its name. What cannot be computed here may be possible where Slurm starts jobs.

    Raises:
        ConfigError: the sizes of a model do not fit each other.
        UnsupportedError: an implementation does not run here.
    """
    if folder is not None and (folder / SWEEP).exists():
        return
    for group in plan(sweep).groups:
        try:
            check_trains(group.members[0].config)
        except UnsupportedError:
            if executor != "slurm":
                raise


def _decides(word: str) -> bool:
    """Whether the defaults of other fields follow from a word."""
    field, values = parse_word(word)
    decides = field.startswith("task.") or field in ("data", "training.batch_size")
    return decides and len(values) == 1


def _fields(text: str) -> list[str]:
    fields = [name.strip() for name in text.split(",")]
    if len(fields) < 2 or not all(fields):
        raise ConfigError(
            f"--zip {text}: two fields or more are expected, as in --zip transition.dim,width"
        )
    return fields


def _is_sweep(file: Path) -> bool:
    """Whether a file is a sweep rather than a config; what cannot be read is said by its reader."""
    try:
        document = scalars.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(document, dict) and "base" in document
