"""A training that runs in one program with others, and what all of these have to share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from plstm_seq.training.config import VALIDATION, TrainingConfig
from plstm_seq.training.consistency import check_consistency
from plstm_seq.training.leaves import is_key
from plstm_seq.training.step import Sample
from plstm_seq.training.trackers import Tracker


@dataclass(frozen=True)
class Member:
    """One training among others of the same shape.

    Attributes:
        model: as in `fit`; holds the trained parameters afterwards.
        config: may differ from the other members' in the learning rate and the weight decay.
        key: typed key, as in `fit`.
        folder: of its checkpoints; None keeps none.
        trackers: take its records.
    """

    model: nnx.Module
    config: TrainingConfig
    key: Array
    folder: Path | None = None
    trackers: Sequence[Tracker] = ()


def check_members(members: Sequence[Member], sample: Sample) -> None:
    """Refuses members that one program cannot train; see `fit_members`."""
    first = members[0]
    check_consistency(first.model, first.config.consistency)
    inputs = _inputs(sample, first.config)
    solved = first.config.solved
    if solved is not None and solved.metric.startswith(VALIDATION):
        raise ValueError(
            f"solved.metric is {solved.metric!r}: members are not validated while they train"
        )
    folders = [member.folder for member in members if member.folder is not None]
    if len(set(folders)) < len(folders):
        raise ValueError("two members have the same folder")
    shared = _shared(first.config)
    forms: dict[Any, str] = {}
    for number, member in enumerate(members):
        if not is_key(member.key):
            raise TypeError(f"key must be a typed key (jax.random.key), got {member.key!r}")
        if _shared(member.config) != shared:
            raise ValueError(
                f"member {number} trains otherwise than member 0: members may differ in "
                "learning_rate and weight_decay alone"
            )
        graphdef = nnx.split(member.model)[0]
        if graphdef not in forms:
            forms[graphdef] = _form(member.model, inputs)
        if forms[graphdef] != next(iter(forms.values())):
            raise ValueError(
                f"the model of member {number} computes otherwise than that of member 0: only "
                "values of variables may differ"
            )


def _shared(config: TrainingConfig) -> TrainingConfig:
    return replace(config, optimizer=replace(config.optimizer, learning_rate=1.0, weight_decay=0.0))


def _inputs(sample: Sample, config: TrainingConfig) -> Any:
    """Shapes of what a model is called with."""
    length = config.curriculum.phase(0).bucket
    lengths = jax.ShapeDtypeStruct((1,), jnp.int32)

    def draw(key: Array, lengths: Array) -> Any:
        return sample(key, 1, length, lengths=lengths).inputs

    return jax.eval_shape(draw, jax.eval_shape(lambda: jax.random.key(0)), lengths)


def _form(model: nnx.Module, inputs: Any) -> str:
    """What a model computes, as text: two that differ in variables alone have the same."""
    graphdef, state = nnx.split(model)

    def forward(state: nnx.State, inputs: Any) -> Any:
        return nnx.merge(graphdef, state)(inputs)  # pyright: ignore[reportCallIssue]

    jaxpr = jax.make_jaxpr(forward)(state, inputs)
    constants = [np.asarray(x).tolist() for x in jaxpr.consts]
    return re.sub(r"0x[0-9a-f]+", "", f"{jaxpr.jaxpr} {constants}")
