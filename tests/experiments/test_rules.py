"""What is trained where nothing is said: rules about the automaton of a task, not its name."""

import dataclasses

import pytest
import yaml
from flax import nnx
from typer.testing import CliRunner

import tasks
from experiments import default_config
from experiments.cli import app
from experiments.config import from_document, to_document
from experiments.problems import problem_of
from experiments.problems.sequences import BASE, NO_RULE, PLACES, RULES, choose, reasons
from plstm_seq.layers.transition import Orthogonal, Selection

# Automata that no rule was made on: each kind of random automata, on fresh seeds.
FRESH = [
    {"kind": kind, "states": states, "symbols": symbols, "seed": seed}
    for kind, states, symbols in (
        ("permutation", 4, 3),
        ("permutation", 6, 3),
        ("reset", 4, 5),
        ("mixed", 4, 5),
        ("mixed", 6, 6),
    )
    for seed in (100, 101, 102, 103)
]


def as_table(task: tasks.Task) -> tasks.Task:
    """The same automaton, written down."""
    machine = task.machine  # pyright: ignore[reportAttributeAccessIssue]
    return tasks.get(
        "automaton",
        transition=machine.transition.tolist(),
        outputs=machine.outputs.tolist(),
        initial=machine.initial,
    )


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_config_that_survives_its_file_and_makes_a_model(name):
    config = default_config(name)
    assert from_document(to_document(config)) == config
    problem = problem_of(config.task.make())
    nnx.eval_shape(lambda: problem.make_model(config.model, nnx.Rngs(0)))


@pytest.mark.parametrize("name", ["parity", "even_pairs", "cycle_navigation", "flip_flop"])
def test_no_rule_knows_a_name(name):
    task = tasks.get(name)
    assert choose(as_table(task)).recipe == choose(task).recipe


@pytest.mark.parametrize("options", FRESH, ids=str)
def test_automata_that_no_rule_was_made_on(options):
    task = tasks.get("random_automaton", **options)
    recipe, chosen = choose(task)
    assert choose(as_table(task)).recipe == recipe
    assert chosen
    assert recipe.source is None
    assert recipe != BASE


@pytest.mark.parametrize(
    ("group", "generators"),
    [("d4", "<(0 1 2 3),(0 2)>"), ("a4", "<(0 1)(2 3),(0 1 2)>")],
)
def test_a_group_by_name_and_by_generators(group, generators):
    named = tasks.get(f"{group}_word_problem")
    given = tasks.get("word_problem", group=generators)
    assert choose(named).recipe == choose(given).recipe


def test_a_complete_config_is_read_without_the_rules(monkeypatch):
    document = to_document(default_config("flip_flop"))

    def refuse(_):
        raise AssertionError("the rules were asked")

    monkeypatch.setattr("experiments.problems.sequences.choose", refuse)
    assert to_document(from_document(document)) == document
    del document["model"]
    with pytest.raises(AssertionError, match="the rules were asked"):
        from_document(document)


def test_groups_of_many_states_rotate_and_other_automata_select():
    rotated = choose(tasks.get("a5_word_problem")).recipe.transition
    assert rotated == Orthogonal(dim=3)
    few_states = choose(tasks.get("q8_word_problem")).recipe.transition
    assert few_states == Selection(dim=9)
    selected = choose(tasks.get("automaton", regex="a(ab)*")).recipe.transition
    assert isinstance(selected, Selection)


def test_what_has_no_automaton_that_can_be_written_out_keeps_the_base():
    for task in (tasks.get("majority"), tasks.get("modular_arithmetic", modulus=1000)):
        assert choose(task) == (BASE, ())
        assert reasons(task) == [NO_RULE]


def test_every_rule_is_of_use_and_sets_fields_of_a_recipe():
    used = {chosen.rule.name for name in tasks.names() for chosen in choose(tasks.get(name)).chosen}
    assert used == {rule.name for rule in RULES}
    fields = {field.name for field in dataclasses.fields(BASE)}
    assert set(PLACES) == fields
    for name in tasks.names():
        assert {chosen.field for chosen in choose(tasks.get(name)).chosen} <= fields


def test_a_dry_run_says_which_rule_chose_what_and_why():
    result = CliRunner().invoke(app, ["train", "s4_word_problem", "num_heads=3", "--dry-run"])
    assert result.exit_code == 0
    comments = [line for line in result.output.splitlines() if line.startswith("#")]
    text = " ".join(line.removeprefix("#").strip() for line in comments)
    kept = set(PLACES) - {"num_heads"}
    assert text.endswith(" ".join(reasons(tasks.get("s4_word_problem"), kept)))
    assert "num_heads" not in text
    document = yaml.safe_load(result.output)
    assert document["model"]["mixer"]["num_heads"] == 3
