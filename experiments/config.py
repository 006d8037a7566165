"""The config of a run, which is the same in Python, in YAML and in the run's folder."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from experiments.problems import Problem, make_task, problem_of
from experiments.problems.sequences import LENGTHS
from experiments.reading import ConfigError, plain, read
from plstm_seq.models import ModelConfig, SequenceModelConfig
from plstm_seq.training import TrainingConfig
from plstm_seq.training.loss import OF_NUMBERS
from tasks.options import Options, check, shown

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class TaskConfig:
    """A task of any kind and its options, for instance `modulus`.

    Attributes:
        name: the name of a task, see `experiments.problems.task_names`.
        options: options of the task by name. Any mapping is taken, and becomes a frozen one.

    Example:
        >>> from experiments import TaskConfig
        >>> TaskConfig("modular_arithmetic", {"modulus": 3}).make().labels
        ('0', '1', '2')
    """

    name: str
    options: Mapping[str, Any] = Options()

    def __post_init__(self):
        object.__setattr__(self, "options", Options(self.options))

    def make(self) -> Any:
        """Makes the task.

        Raises:
            ValueError, TypeError: the name of the task or an option is wrong.
        """
        return make_task(self.name, **self.options)


@dataclass(frozen=True)
class EvaluationConfig:
    """How accuracy against length is measured.

    Attributes:
        lengths: the lengths that `evaluate` measures unless it is given others. Of images and grids
            these are sizes, of graphs sizes or depths.
        num_sequences: number of fresh sequences at each length.
        batch_size: number of sequences that run at once.
        chunk_size: number of symbols of a sequence that run at once.
        seed: seed of the sequences. It is the same for every run, so that all runs are measured on
            the same sequences.
        mixture: shortest and longest length of a further set of sequences, over all of which one
            accuracy is measured; None: there is no such set.
        mixture_sequences: number of sequences in that set.
        snap_every: number of symbols after which, in a second pass, the state is replaced by the
            learned prototype of the label that the model predicts, see
            `plstm_seq.evaluation.snapping`; None: there is no such pass.

    Example:
        >>> from dataclasses import replace
        >>> from experiments import EvaluationConfig, default_config
        >>> settings = EvaluationConfig(lengths=(64, 256), num_sequences=100)
        >>> replace(default_config("parity"), evaluation=settings).evaluation.lengths
        (64, 256)
    """

    lengths: tuple[int, ...] = LENGTHS
    num_sequences: int = 512
    batch_size: int = 128
    chunk_size: int = 256
    seed: int = 1_000_003
    mixture: tuple[int, int] | None = None
    mixture_sequences: int = 8192
    snap_every: int | None = None

    def __post_init__(self):
        sizes = ("num_sequences", "batch_size", "chunk_size", "mixture_sequences", "snap_every")
        for name in sizes:
            size = getattr(self, name)
            check(size is None or size >= 1, name, size, "at least 1")
        lengths, mixture = self.lengths, self.mixture
        fits = bool(lengths) and not min(lengths) < 1
        check(fits, "lengths", lengths, "one or more numbers of at least 1")
        fits = mixture is None or 1 <= mixture[0] <= mixture[1]
        check(fits, "mixture", mixture, "two lengths, the shorter first")
        check_seed(self.seed)


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything a run depends on: a value, which is compared and hashed as a whole.

    Attributes:
        task: the task that is learned.
        model: the model that learns it.
        training: how long it trains, on which lengths and with which optimizer.
        evaluation: how it is measured.
        seed: seed of the parameters and of the training batches.
        dtype: the type in which the model computes. Parameters, gates, states and logits are always
            in float32.
        initial_run: the folder of a run of the same model, with whose last parameters training
            starts; None: it starts with new ones.

    Example:
        >>> from experiments import ExperimentConfig, default_config
        >>> config: ExperimentConfig = default_config("s3_word_problem")
        >>> config.task.name, config.training.steps, config.seed
        ('s3_word_problem', 2000, 0)
    """

    task: TaskConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    initial_run: str | None = None

    def __post_init__(self):
        check_seed(self.seed)
        for part in dataclasses.fields(self):
            object.__setattr__(self, part.name, _hashable(getattr(self, part.name)))


def _hashable(part: Any) -> Any:
    """A part of a config, with what files hold in place of lists, paths and numbers of numpy."""
    if isinstance(part, list | tuple | range):
        return tuple(map(_hashable, part))
    if isinstance(part, os.PathLike):
        return os.fspath(part)
    if isinstance(part, np.generic):
        return part.item()
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    changed = {name: new for name, old in values.items() if (new := _hashable(old)) is not old}
    return dataclasses.replace(part, **changed) if changed else part


def check_seed(seed: int) -> None:
    """Raises ValueError for a seed above `LARGEST_SEED`, which jax would take modulo 2^32."""
    check(0 <= seed <= LARGEST_SEED, "seed", seed, f"0 to {LARGEST_SEED}")


def default_config(task: str, **options: Any) -> ExperimentConfig:
    """Returns the config recommended for a task: its model, its training and its evaluation.

    Args:
        task: a name in `experiments.problems.task_names()`, or that of a group's word problem.
        **options: options of the task.

    Raises:
        ConfigError: there is no such task or option, or a value is wrong.

    Example:
        >>> from experiments import default_config
        >>> config = default_config("modular_arithmetic", modulus=3)
        >>> config.task.options
        {'modulus': 3}
    """
    config = TaskConfig(task, options)
    return _default(config, make_problem(config))


def _default(config: TaskConfig, problem: Problem) -> ExperimentConfig:
    try:
        training = problem.recommended_training()
    except (ValueError, OSError) as error:  # the files that the task reads are missing or wrong
        raise ConfigError(str(error)) from None
    evaluation = EvaluationConfig(lengths=problem.recommended_sizes())
    return ExperimentConfig(config, problem.recommended_model(), training, evaluation)


def to_document(config: ExperimentConfig) -> dict[str, Any]:
    """Turns a config into nested dictionaries and lists, which can be written as YAML."""
    return {**plain(config), "task": task_document(config.task)}


def task_document(config: TaskConfig) -> dict[str, Any]:
    """Returns the part `task` of a document, which holds the name next to the options."""
    return {"name": config.name, **plain(config.options)}


def from_document(document: Mapping[str, Any]) -> ExperimentConfig:
    """Returns the config that a document describes; fields left out take their defaults.

    Raises:
        ConfigError: a field is unknown, missing or has a wrong value.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(_NO_TASK)
    task = read_task(document.get("task"))
    problem = make_problem(task)
    default = functools.cache(functools.partial(_default, task, problem))
    parts = {
        part: filled(part, document[part], default)
        if part in document
        else getattr(default(), part)
        for part in _UNSAID
    }
    config = read(ExperimentConfig, {**document, **parts, "task": task})
    check_config(config, problem)
    return config


_NO_TASK = "a config needs a mapping 'task' with the field 'name'"


def read_task(document: Any) -> TaskConfig:
    """Reads the part `task` of a document; the task itself is not made.

    Raises:
        ConfigError: the part is not a mapping, or has no name.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(_NO_TASK)
    if not isinstance(name := document.get("name"), str):
        raise ConfigError(
            f"task.name: got {shown(name)}, expected the name of a task (`plstm-seq tasks`)"
        )
    options = {name: value for name, value in document.items() if name != "name"}
    return TaskConfig(document["name"], options)


# Fields whose values follow from the task if a document leaves them out. Documents of older
# versions leave them out, and so do those that name only a few fields.
_UNSAID: Mapping[str, tuple[str, ...]] = {
    "model": ("kind",),
    "training": ("loss", "solved"),
    "evaluation": ("lengths",),
}


def filled(part: str, given: Any, default: Callable[[], ExperimentConfig]) -> Any:
    """Completes a part of a document with the fields that follow from the task.

    Args:
        part: the name of a field of `ExperimentConfig` other than `task`.
        given: this part of the document.
        default: a function that makes the task's default config.
    """
    if part not in _UNSAID or not isinstance(given, Mapping):
        return given
    unsaid = [name for name in _UNSAID[part] if name not in given]
    if "solved" in unsaid and default().training.loss not in OF_NUMBERS:
        unsaid.remove("solved")  # the default of its class is an accuracy, which suits this loss
    if not unsaid:
        return given
    return {**{name: plain(getattr(getattr(default(), part), name)) for name in unsaid}, **given}


def check_config(config: ExperimentConfig, problem: Problem | None = None) -> None:
    """Refuses a config whose parts do not go together.

    Args:
        config: the config to check.
        problem: the problem of its task; None: it is made here.

    Raises:
        ConfigError: the task cannot be made, or the model or training do not fit it.
    """
    problem = make_problem(config.task) if problem is None else problem
    try:
        problem.check_model(config.model)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if config.training.loss not in problem.losses:
        raise ConfigError(
            f"training.loss: got {config.training.loss!r}, expected one of "
            f"{', '.join(problem.losses)} for what {config.task.name} predicts"
        )
    if problem.axis != "length":
        _check_sized(config)
    check_consistency(config)


def check_consistency(config: ExperimentConfig) -> None:
    """Refuses a consistency term for a model whose transitions do not depend on tokens alone.

    Raises:
        ConfigError: the config has the term, and its model is of this kind.
    """
    weight = config.training.consistency
    if not weight:
        return
    if not isinstance(config.model, SequenceModelConfig):
        raise ConfigError(
            f"training.consistency: got {weight}, expected 0: {config.task.name} has no words"
        )
    try:
        config.model.check_transitions_by_token()
    except ValueError as error:
        raise ConfigError(
            f"training.consistency: got {weight}, expected 0 for this model: model.{error}"
        ) from None


def _check_sized(config: ExperimentConfig) -> None:
    """Refuses settings that only sequences have in the config of images, grids or graphs."""
    kind = config.training.curriculum.kind
    if kind != "sizes":
        raise ConfigError(f"training.curriculum: got {kind!r}, expected sizes: inputs have a size")
    if config.training.max_tokens is not None:
        raise ConfigError(f"training.max_tokens: expected none: {config.task.name} has no length")
    solved = config.training.solved
    if solved is not None and solved.is_measured:
        raise ConfigError(
            f"training.solved: expected no lengths and no mixture: {config.task.name} has no length"
        )
    for name in ("mixture", "snap_every"):
        if getattr(config.evaluation, name) is not None:
            raise ConfigError(f"evaluation.{name}: expected none: {config.task.name} has no length")


def brief_document(config: ExperimentConfig) -> dict[str, Any]:
    """As `to_document`, but without fields that have their class's default value.

    `from_document` reads the result.
    """
    brief = {**_unlike_defaults(config), "task": task_document(config.task)}
    for part, names in _UNSAID.items():  # `from_document` would take the task's values for these
        for name in names:
            value = plain(getattr(getattr(config, part), name))
            if isinstance(value, Mapping):
                value = {key: one for key, one in value.items() if one is not None}
            brief[part] = {name: value, **brief.get(part, {})}
    return brief


def _unlike_defaults(node: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from its defaults, after its `kind` if any."""
    kept = {"kind": node.kind} if hasattr(node, "kind") else {}
    for one in dataclasses.fields(node):
        value, default = getattr(node, one.name), one.default
        if one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        if one.name in kept or (type(value) is type(default) and value == default):
            continue
        inside = dataclasses.is_dataclass(value)
        kept[one.name] = _unlike_defaults(value) if inside else plain(value)
    return kept


def make_problem(config: TaskConfig) -> Problem:
    """Makes the task of a config, and returns the problem of its kind.

    Raises:
        ConfigError: there is no such task or option, or a value is wrong.
    """
    try:
        return problem_of(config.make())
    except (ValueError, TypeError) as error:
        text = str(error)
        names_it = text.startswith(("task ", "unknown task"))
        raise ConfigError(text if names_it else f"task: {text}") from None
