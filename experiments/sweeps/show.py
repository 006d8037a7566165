"""What `sweep` and `status` print: rows for machines, tables for people."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from experiments.console import plain_table
from experiments.sweeps.launch import MemberStatus
from experiments.sweeps.memory import COUNTED
from experiments.sweeps.plan import Plan


def plan_rows(plan: Plan) -> dict[str, Any]:
    """A plan as JSON holds it."""
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
    """A plan as tables: its groups, then its members."""
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
    """How far members are, as a table."""
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
    """How many members are how far, in a line."""
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
