"""Sequences of symbols: the sequence model, lengths, and how such a task is learned.

A table of rules, read from top to bottom, chooses how a task is learned where a user sets nothing
else. Each rule looks at properties of the task's automaton (`experiments.problems.demanding`) and
sets some fields of a recipe; a later rule overrides an earlier one. No rule knows the name of a
task, so that an automaton, a regular expression or generators of your own are treated as the
built-in tasks are.
`plstm-seq train TASK --dry-run` shows what was chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flax import nnx

import tasks
from experiments.problems.base import Problem
from experiments.problems.demanding import Demands, demands
from plstm_seq.evaluation import Axis
from plstm_seq.layers import ConvolutionConfig, GateConfig, TransitionConfig
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Bounded, Orthogonal, Selection
from plstm_seq.models import ModelConfig, SequenceModel, SequenceModelConfig
from plstm_seq.models.sequence import state_tracking
from plstm_seq.training import ByAccuracy, OptimizerConfig, Sample, TrainingConfig

OPEN = GateConfig(weight=True, bias_init=Constant(0.0), weight_init=FanIn(0.1))
"""A source that writes from the first training step on."""


@dataclass(frozen=True)
class Recipe:
    """The fields that rules choose; the configs that have these fields document them.

    Attributes:
        transition: the family of transitions and its dimension JT.
        source: the gate that writes; None: nothing is written, and the state is a learned initial
            state times the transitions.
        convolution: the number of symbols that a gate reads, the current one included; None: only
            the current one.
        num_blocks: the number of blocks of the model.
        width: the number of features between blocks.
        num_heads: the number of heads, H.
        DK: the number of query and key features per head.
        DV: the number of value features per head.
        label_smoothing: the label smoothing of the loss. If it is above 0, logits are not capped.
        stages: the stages of the curriculum `by_accuracy`: (length, most steps).
        smallest_bucket: shorter sequences are padded to this length. One length for all stages is
            compiled once; if batches are large, short sequences are cheaper.
        batch_size: the number of sequences per step.
        max_tokens: the largest number of symbols per step; None: any number.
        learning_rate: the peak of the learning rate.
    """

    transition: TransitionConfig
    source: GateConfig | None
    convolution: int | None
    num_blocks: int
    width: int
    num_heads: int
    DK: int
    DV: int
    label_smoothing: float
    stages: tuple[tuple[int, int], ...]
    smallest_bucket: int
    batch_size: int
    max_tokens: int | None
    learning_rate: float

    def model(self) -> SequenceModelConfig:
        """Returns the config of the model."""
        config = state_tracking(
            self.transition,
            width=self.width,
            num_blocks=self.num_blocks,
            num_heads=self.num_heads,
            DK=self.DK,
            DV=self.DV,
        )
        short = None if self.convolution is None else ConvolutionConfig(self.convolution)
        mixer = dataclasses.replace(config.mixer, source=self.source, convolution=short)
        cap = None if self.label_smoothing else config.logit_soft_cap
        return dataclasses.replace(config, mixer=mixer, logit_soft_cap=cap)

    def training(self) -> TrainingConfig:
        """Returns the config of the training."""
        return TrainingConfig(
            steps=sum(steps for _, steps in self.stages),
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            optimizer=OptimizerConfig(
                learning_rate=self.learning_rate, warmup_steps=50, final_fraction=0.0
            ),
            curriculum=ByAccuracy(stages=self.stages, smallest_bucket=self.smallest_bucket),
            label_smoothing=self.label_smoothing,
            solved=None,
        )


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: the name that readers see.
        why: the reason, in one sentence.
        applies: decides from the demands of a task (one with a finite automaton) whether the rule
            applies.
        fields: returns the fields of the recipe that the rule sets.
    """

    name: str
    why: str
    applies: Callable[[Demands], bool]
    fields: Callable[[Demands], Mapping[str, Any]]


class Chosen(NamedTuple):
    """A field of a recipe that a rule chose."""

    field: str
    value: Any
    rule: Rule


class Choice(NamedTuple):
    """The recipe of a task, and the fields in it that rules chose."""

    recipe: Recipe
    chosen: tuple[Chosen, ...]


BASE = Recipe(
    transition=Bounded(dim=4),
    source=OPEN,
    convolution=4,
    num_blocks=2,
    width=64,
    num_heads=4,
    DK=4,
    DV=4,
    label_smoothing=0.0,
    stages=((4, 600), (8, 400), (16, 400), (40, 600)),
    smallest_bucket=40,
    batch_size=64,
    max_tokens=None,
    learning_rate=3e-3,
)
"""The recipe where no rule says otherwise: transitions that can keep, turn and forget, and a
convolution over four symbols."""

FEW_STATES = 8
"""A group that permutes at most this number of states is learned as permutations of them."""

MOST_ROTATED = 8
"""Groups that need rotations of more dimensions than this get other transitions."""

MOST_ENTRIES = 4_000_000
"""An automaton whose table has more entries is not analysed: it would delay the first step."""

MOST_SELECTED = 12
"""Automata with more states than this do not get one place for each state."""


def _asked(task: tasks.Task) -> Demands | None:
    """Returns what a task demands; None: it has no finite automaton, or one that is too large."""
    try:
        machine = getattr(task, "machine", None)
        if machine is not None and machine.transition.size > MOST_ENTRIES:
            return None
        return demands(task)
    except ValueError:  # the automaton is too large to be written out
        return None


def _is_small_group(of: Demands) -> bool:
    return of.structure.is_group and of.structure.states <= FEW_STATES


def _is_rotated(of: Demands) -> bool:
    """Whether the task is a group that is learned as rotations."""
    small, dim = _is_small_group(of), of.rotation_dimension
    return of.structure.is_group and not small and dim is not None and dim <= MOST_ROTATED


def _rotations(of: Demands) -> int:
    return max(2, of.rotation_dimension or 2)


def _elements(of: Demands) -> int:
    return of.structure.group_order or of.structure.states


def _others(of: Demands) -> bool:
    return not _is_small_group(of) and not _is_rotated(of)


RULES: tuple[Rule, ...] = (
    Rule(
        "small group",
        "every symbol permutes few states: each state is a place, and a symbol moves every entry "
        "of the state to its next place, without an error that could grow; one place to spare; "
        "nothing has to be written",
        _is_small_group,
        lambda of: {
            "transition": Selection(dim=of.structure.states + 1),
            "source": None,
            "convolution": None,
            "num_blocks": 1,
        },
    ),
    Rule(
        "group",
        "every symbol permutes the states, and there are many: rotations of the smallest dimension "
        "that tells them apart; nothing has to be written; smoothed labels go on pulling towards "
        "an exact representation when every answer is right, and so does a last stage at 128",
        _is_rotated,
        lambda of: {
            "transition": Orthogonal(dim=_rotations(of)),
            "source": None,
            "convolution": None,
            "num_blocks": 1,
            "num_heads": 8,
            "DK": 2,
            "DV": _rotations(of),
            "label_smoothing": 0.1,
            "stages": ((4, 1500), (8, 500), (16, 500), (40, 400), (128, 400)),
            "smallest_bucket": 16,
            "max_tokens": 4096,
        },
    ),
    Rule(
        "large group",
        "more elements need more features to tell them apart, and larger batches of short "
        "sequences to see them all",
        lambda of: _is_rotated(of) and _elements(of) > 24,
        lambda of: {
            "num_heads": 16 if _elements(of) <= 60 else 8,
            "width": 64 if _elements(of) <= 60 else 128,
            "batch_size": 256,
            "stages": ((4, 3000), (8, 1000), (16, 1000), (40, 600), (128, 400)),
            "smallest_bucket": 4,
        },
    ),
    Rule(
        "automaton",
        "some symbol joins states: as with a small group, and as many places to spare as there are "
        "states, since a place that two states share too early is hard to leave",
        lambda of: _others(of) and of.structure.states <= MOST_SELECTED,
        lambda of: {
            "transition": Selection(dim=2 * of.structure.states),
            "source": None,
            "convolution": None,
            "num_blocks": 1,
            "num_heads": 8,
            "stages": ((4, 600), (8, 400), (16, 400), (40, 800)),
        },
    ),
    Rule(
        "large automaton",
        "too many states for a place each: a cascade of two blocks of few places, the second of "
        "which reads what the first found and, by a convolution, the symbol before; short "
        "sequences take as many steps as they need, long ones large batches",
        lambda of: _others(of) and of.structure.states > MOST_SELECTED,
        lambda _: {
            "transition": Selection(dim=8),
            "source": None,
            "convolution": 2,
            "num_blocks": 2,
            "num_heads": 8,
            "width": 128,
            "DK": 2,
            "batch_size": 256,
            "max_tokens": None,
            "stages": ((3, 1500), (5, 1000), (9, 1000), (21, 1000), (41, 1000)),
            "smallest_bucket": 11,
        },
    ),
)


NO_RULE = "no rule applies: the recipe of tasks without a finite automaton, or with too large a one"


def choose(task: tasks.Task) -> Choice:
    """Chooses how a task is learned where a user sets nothing else.

    Args:
        task: any task on sequences, also one of your own.
    """
    asked = _asked(task)
    recipe, chosen = BASE, {}
    for rule in RULES:
        if asked is not None and rule.applies(asked):
            fields = rule.fields(asked)
            recipe = dataclasses.replace(recipe, **fields)
            chosen |= {name: Chosen(name, value, rule) for name, value in fields.items()}
    return Choice(recipe, tuple(chosen.values()))


PLACES: Mapping[str, tuple[str, ...]] = {
    **{name: ("model", name) for name in ("num_blocks", "width")},
    **{
        name: ("model", "mixer", name)
        for name in ("transition", "source", "convolution", "num_heads", "DK", "DV")
    },
    **{name: ("training", name) for name in ("label_smoothing", "batch_size", "max_tokens")},
    **{name: ("training", "curriculum", name) for name in ("stages", "smallest_bucket")},
    "learning_rate": ("training", "optimizer", "learning_rate"),
}
"""The places of a recipe's fields in a config."""


def reasons(task: tasks.Task, fields: Collection[str] = tuple(PLACES)) -> list[str]:
    """Explains which rules chose which fields for a task, and why; one line per rule.

    Args:
        task: any task on sequences.
        fields: the fields of the recipe that still have the values that the rules chose.
    """
    chosen = choose(task).chosen
    if not chosen:
        return [NO_RULE]
    by_rule: dict[str, list[str]] = {}
    for field, _, rule in chosen:
        if field in fields:
            by_rule.setdefault(f"{rule.name}: {rule.why}", []).append(field)
    return [f"{rule} ({', '.join(names)})" for rule, names in by_rule.items()]


LENGTHS = (16, 32, 40, 64, 128, 256, 512, 1024, 2048, 4096)
"""The evaluated lengths: up to a hundred times the lengths of training."""


@dataclass(frozen=True)
class SequenceProblem(Problem):
    """A task of `tasks.get`."""

    task: tasks.Task

    config = SequenceModelConfig
    reads = "sequences"

    @property
    def axis(self) -> Axis:
        """What grows from training to evaluation: the length of the sequence."""
        return "length"

    @property
    def sample(self) -> Sample:
        """Draws sequences whose lengths go up to a given one."""
        return self.task.sample

    def _model(self, config: Any, **options: Any) -> nnx.Module:
        return SequenceModel(len(self.task.vocabulary), config, **options)

    def recommended_model(self) -> ModelConfig:
        """Returns the model of the recipe that the rules choose."""
        return choose(self.task).recipe.model()

    def recommended_training(self) -> TrainingConfig:
        """Returns the training of the recipe that the rules choose."""
        return choose(self.task).recipe.training()

    def recommended_sizes(self) -> tuple[int, ...]:
        """Returns lengths up to a hundred times those of training."""
        return LENGTHS
