"""Members, their names, and which of them share a program."""

from dataclasses import replace

import pytest
from small_run import small_config

from experiments import ConfigError, default_config, override
from experiments.presets import protocol_model
from experiments.sweeps import (
    Sweep,
    chain,
    create_sweep,
    group_key,
    plan,
    product,
    sweep_of_words,
    vary,
)
from experiments.sweeps.plan import member_bytes


def test_the_sweep_of_the_issue():
    words = ["transition.dim=1,2,4", "seed=0..7", "learning_rate=1e-3,3e-3"]
    planned = plan(sweep_of_words(default_config("s3_word_problem"), words))
    assert len(planned.members) == 48
    assert planned.members[0].name == "JT=1,seed=0,learning_rate=0.001"
    assert planned.members[0].varied == {"JT": 1, "seed": 0, "learning_rate": 0.001}
    assert planned.members[-1].config.model.mixer.transition.dim == 4
    assert [(group.name, len(group.members)) for group in planned.groups] == [
        ("g00", 16),
        ("g01", 16),
        ("g02", 16),
    ]
    assert {member.group for member in planned.members} == {"g00", "g01", "g02"}
    assert planned.group("g02").members == planned.members[32:]
    with pytest.raises(ConfigError, match="no group 'g03'; there are g00 to g02"):
        planned.group("g03")


@pytest.mark.parametrize(
    "assignment",
    [
        "seed=5",
        "learning_rate=0.5",
        "weight_decay=0.1",
        "embed_init=zeros",
        "mark.bias_init={kind: constant, value: 0.5}",
        "transition.eigenvalue_weight_init.scale=0.7",
        "transition.eigenvalue_factor=3.0",
        "evaluation.lengths=[3]",
    ],
)
def test_leaves_share_a_program(assignment):
    config = replace(default_config("parity"), model=protocol_model())
    changed = override(config, [assignment])
    assert changed != config
    assert group_key(changed) == group_key(config)


@pytest.mark.parametrize(
    "assignment",
    [
        "transition.dim=4",
        "transition=orthogonal",
        "source={}",
        "width=32",
        "num_blocks=2",
        "implementation=recurrent",
        "training.batch_size=8",
        "steps=900",
        "warmup_steps=7",
        "curriculum.draw=batch",
        "post_blocks_norm=null",
        "solved={threshold: 0.9}",
        "task.name=even_pairs",
    ],
)
def test_all_else_makes_another_group(assignment):
    config = default_config("parity")
    assert group_key(override(config, [assignment])) != group_key(config)


def test_task_options_make_another_group():
    keys = {group_key(default_config("modular_arithmetic", modulus=m)) for m in (3, 5)}
    assert len(keys) == 2


def test_names_are_safe_and_unlike():
    base = default_config("parity")
    settings = chain(
        product(vary("transition", ["diagonal"]), vary("entries", ["signed", "positive"])),
        vary("transition", ["orthogonal"]),
        vary("evaluation.lengths", [[4, 8], [4, 9]]),
        vary("mark.bias_init", [{"kind": "constant", "value": -0.5}]),
    )
    names = [member.name for member in plan(Sweep(base, tuple(settings))).members]
    assert names == [
        "transition=diagonal,entries=signed",
        "transition=diagonal,entries=positive",
        "transition=orthogonal",
        "lengths=4-8",
        "lengths=4-9",
        "bias_init=constant--0.5",
    ]


def test_names_that_would_be_alike_or_too_long_get_a_hash():
    base = default_config("parity")
    lengths = [list(range(1, 99)), list(range(1, 100))]
    planned = plan(Sweep(base, tuple(vary("evaluation.lengths", lengths))))
    names = [member.name for member in planned.members]
    assert len(set(names)) == 2
    assert all(len(name) < 140 for name in names)
    (only,) = plan(Sweep(base, ({"seed": 3},))).members
    assert only.name == "only"


def test_a_member_keeps_the_folder_that_a_version_with_another_order_of_fields_made(tmp_path):
    blocks = [{"block": {"kind": "post_up", "bias": bias}} for bias in (False, True)]
    folder = create_sweep(Sweep(small_config(), tuple(blocks)), tmp_path / "sweep")
    first, second = folder.plan.members
    old = folder.path / "members" / f"block=post_up-in-another-order{first.name[-9:]}"
    old.mkdir(parents=True)
    assert folder.run(first).folder == old
    assert folder.run(second).folder.name == second.name


def test_memory_of_an_implementation_for_other_machines():
    named = ("pallas_gpu", "null")
    elsewhere, here = (small_config("parity", f"mixer.implementation={name}") for name in named)
    assert member_bytes(elsewhere) == member_bytes(here)


def test_memory_is_that_of_the_members_together():
    sweep = Sweep(small_config(), tuple(vary("seed", range(3))))
    (group,) = plan(sweep, memory=True).groups
    assert group.memory_bytes == 3 * member_bytes(small_config())
    assert plan(sweep).groups[0].memory_bytes is None
    # Twice the batch: what the backward pass reads doubles, the parameters do not.
    one, two = (member_bytes(small_config("parity", f"training.batch_size={n}")) for n in (4, 8))
    assert 1.5 < two / one < 2
