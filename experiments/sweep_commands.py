"""Helpers of the commands `sweep` and `status`: they turn arguments into sweeps and make tables."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Group
from rich.text import Text

from experiments import scalars
from experiments.commands import choose_config
from experiments.config import ConfigError
from experiments.console import plain_table
from experiments.new_runs import check_trains
from experiments.sweeps.folder import SWEEP
from experiments.sweeps.launch import MemberStatus
from experiments.sweeps.plan import COUNTED, Plan, plan
from experiments.sweeps.sweep import Sweep, read_sweep, sweep_of_words
from experiments.sweeps.values import parse_word
from plstm_seq.ops.device import UnsupportedError
from tasks.options import shown


def choose_sweep(
    task: str | None, words: Sequence[str], file: Path | None, zipped: Sequence[str]
) -> Sweep:
    """Returns the sweep that the arguments of `sweep` ask for.

    Args:
        task: the name of a task; or the first word, if no task is named.
        words: fields and their values, each as `field=values`.
        file: a YAML file that holds a sweep or a config.
        zipped: groups of fields that change together; each text has the names between commas.

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
    """Refuses a sweep with a group that cannot be trained; no folder is made.

    Args:
        sweep: the sweep to train.
        folder: the folder of the sweep; if it holds a sweep already, nothing is checked.
        executor: the name of the executor. With `slurm`, implementations that do not run here are
            accepted, because they may run on the cluster.

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
    """Returns whether the defaults of other fields follow from the field that a word sets."""
    field, values = parse_word(word)
    decides = field.startswith("task.") or field in ("data", "training.batch_size")
    return decides and len(values) == 1


def _fields(text: str) -> list[str]:
    fields = [name.strip() for name in text.split(",")]
    if len(fields) < 2 or not all(fields):
        raise ConfigError(
            f"--zip: got {shown(text)}, expected two fields or more, as in "
            "--zip transition.dim,width"
        )
    return fields


def _is_sweep(file: Path) -> bool:
    """Returns whether a file holds a sweep and not a config; False if it cannot be read."""
    try:
        document = scalars.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(document, dict) and "base" in document


def plan_rows(plan: Plan) -> dict[str, Any]:
    """Returns a plan as a dictionary that JSON can hold."""
    return {
        "groups": [
            {
                "name": group.name,
                "members": [member.name for member in group.members],
                "memory_bytes": group.memory_bytes,
            }
            for group in plan.groups
        ],
        "members": [
            {"name": member.name, "group": member.group, "varied": dict(member.varied)}
            for member in plan.members
        ],
    }


def plan_tables(plan: Plan) -> Group:
    """Makes the tables of a plan: its groups, then its members."""
    groups = plain_table("group", "members", "memory")
    for group in plan.groups:
        memory = "" if group.memory_bytes is None else _size(group.memory_bytes)
        groups.add_row(group.name, str(len(group.members)), memory)
    names = list(dict.fromkeys(name for member in plan.members for name in member.varied))
    members = plain_table("group", *names)
    for group in plan.groups:
        for member in group.members:
            cells = (_value(member.varied[n]) if n in member.varied else "" for n in names)
            members.add_row(group.name, *map(Text, cells))
    return Group(
        Text(
            f"{_count(len(plan.members), 'member')} in {_count(len(plan.groups), 'group')}, "
            "each group one program"
        ),
        Text(""),
        groups,
        Text(f"memory: an upper estimate, of {COUNTED}\n"),
        members,
    )


def status_table(rows: Sequence[MemberStatus]) -> Group:
    """Makes the table that shows how far members are."""
    staged = any(row.stage is not None for row in rows)
    stage = ["stage"] if staged else []
    table = plain_table("member", "group", "status", "step", *stage, "evaluated")
    for row in rows:
        evaluated = "yes" if row.evaluated else "no"
        step = f"{row.step}/{row.steps}"
        stage = [row.stage or "-"] if staged else []
        table.add_row(Text(row.member), row.group, row.status, step, *stage, evaluated)
    errors = [Text(f"{row.member}: {row.error}") for row in rows if row.error]
    return Group(table, Text(f"\n{summary(rows)}"), *errors)


def summary(rows: Sequence[MemberStatus]) -> str:
    """Counts members by their status, in one line of text."""
    counts = Counter(row.status for row in rows)
    text = ", ".join(f"{count} {status}" for status, count in counts.items())
    evaluated = sum(row.evaluated for row in rows)
    return f"{_count(len(rows), 'member')}: {text}; {evaluated} evaluated"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _size(number: int) -> str:
    size, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
