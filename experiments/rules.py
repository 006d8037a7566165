"""How a task on sequences is learned where nothing else is said.

A table of rules, read from top to bottom. Each looks at what the task's automaton is like
(`experiments.demands`) and sets some fields of a recipe; a later rule overrides an earlier one. No
rule knows the name of a task, so that an automaton, a regular expression or generators of your own
are treated as the built-in tasks are. `plstm-seq train TASK --dry-run` shows what was chosen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import tasks
from experiments.demands import Demands, demands
from plstm_seq.layers import ConvolutionConfig, GateConfig, TransitionConfig
from plstm_seq.layers.initializers import Constant, FanIn
from plstm_seq.layers.transition import Bounded, Orthogonal, Selection
from plstm_seq.models import SequenceModelConfig
from plstm_seq.models.presets import state_tracking
from plstm_seq.training import ByAccuracy, OptimizerConfig, TrainingConfig

OPEN = GateConfig(weight=True, bias_init=Constant(0.0), weight_init=FanIn(0.1))
"""A source that writes from the first step of training on."""


@dataclass(frozen=True)
class Recipe:
    """The fields that rules choose; what they mean is said in the configs that have them.

    Attributes:
        transition: the family and its dimension JT.
        source: the gate that writes; None: nothing is written, the state is a learned initial one
            times the transitions.
        convolution: symbols that a gate sees, the current one included; None: that one alone.
        num_blocks: of the model.
        width: features between blocks.
        num_heads: H.
        DK: query and key features a head.
        DV: value features a head.
        label_smoothing: of the loss. Where it is above 0, logits are not capped.
        stages: of the curriculum `by_accuracy`: (length, most steps).
        batch_size: sequences a step.
        max_tokens: symbols a step; None: any number.
        learning_rate: its peak.
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
    batch_size: int
    max_tokens: int | None
    learning_rate: float

    def model(self) -> SequenceModelConfig:
        """The config of the model."""
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
        """The config of the training."""
        return TrainingConfig(
            steps=sum(steps for _, steps in self.stages),
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            optimizer=OptimizerConfig(
                learning_rate=self.learning_rate, warmup_steps=50, final_fraction=0.0
            ),
            curriculum=ByAccuracy(stages=self.stages, smallest_bucket=self.stages[0][0]),
            label_smoothing=self.label_smoothing,
            solved=None,
        )


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: for the reader.
        why: a sentence.
        applies: whether it does, of what a task demands; None: the task has no finite automaton.
        fields: what it sets in the recipe.
    """

    name: str
    why: str
    applies: Callable[[Demands | None], Any]
    fields: Callable[[Any], Mapping[str, Any]]


class Chosen(NamedTuple):
    """A field that a rule chose."""

    field: str
    value: Any
    rule: str
    why: str


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
    batch_size=64,
    max_tokens=None,
    learning_rate=3e-3,
)
"""Where no rule says otherwise: transitions that can keep, turn and forget, and a memory of four
symbols."""

MOST_ROTATED = 8
"""Groups that need rotations of more dimensions than this get other transitions."""

MOST_SELECTED = 32
"""Automata with more states than this get other transitions."""


def _is_group(of: Demands | None) -> bool:
    rotations = None if of is None else of.rotation_dimension
    return (
        of is not None
        and of.structure.is_group
        and rotations is not None
        and rotations <= MOST_ROTATED
    )


def _order(of: Demands) -> int:
    return of.structure.group_order or of.structure.states


RULES: tuple[Rule, ...] = (
    Rule(
        "group",
        "every symbol permutes the states: rotations of so many dimensions represent that, and "
        "nothing has to be written",
        _is_group,
        lambda of: {
            "transition": Orthogonal(dim=max(2, of.rotation_dimension)),
            "source": None,
            "convolution": None,
            "num_blocks": 1,
            "DK": 2,
            "DV": max(2, of.rotation_dimension),
            "num_heads": 8,
        },
    ),
    Rule(
        "group, kept",
        "smoothed labels go on pulling the rotations towards an exact representation when every "
        "answer is right",
        _is_group,
        lambda _: {"label_smoothing": 0.1},
    ),
    Rule(
        "large group",
        "more elements need more heads and features to tell them apart, and larger batches of "
        "short sequences to see them all",
        lambda of: _is_group(of) and _order(of) > 24,
        lambda of: {
            "num_heads": 16 if _order(of) <= 60 else 8,
            "width": 64 if _order(of) <= 60 else 128,
            "batch_size": 256,
            "max_tokens": 2048,
            "stages": ((4, 3000), (8, 1000), (16, 1000), (40, 800)),
        },
    ),
    Rule(
        "automaton",
        "some symbol joins states: each entry of the state moves to the place of its next state, "
        "one place more than there are states, and nothing has to be written",
        lambda of: (
            of is not None and not _is_group(of) and of.structure.states <= MOST_SELECTED
        ),
        lambda of: {
            "transition": Selection(dim=of.structure.states + 1),
            "source": None,
            "convolution": None,
            "num_blocks": 1,
        },
    ),
)


def choose(task: tasks.Task) -> tuple[Recipe, tuple[Chosen, ...]]:
    """The recipe of a task, and which rule chose what.

    Args:
        task: any task on sequences.
    """
    asked = demands(task)
    recipe, chosen = BASE, {}
    for rule in RULES:
        if rule.applies(asked):
            fields = rule.fields(asked)
            recipe = dataclasses.replace(recipe, **fields)
            for name, value in fields.items():
                chosen[name] = Chosen(name, value, rule.name, rule.why)
    return recipe, tuple(chosen.values())
