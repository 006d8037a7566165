"""What a run is made of: the same in Python, in YAML and in the run's folder."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic

from experiments import scalars
from experiments.presets import LENGTHS
from experiments.problems import Problem, make_task, problem_of
from plstm_seq.models import ModelConfig, SequenceModelConfig
from plstm_seq.training import TrainingConfig
from plstm_seq.training.loss import OF_NUMBERS
from tasks.options import nearest, shown

LARGEST_SEED = 2**32 - 1


class ConfigError(ValueError):
    """A field or value of a config is wrong; the message says which and what is expected.

    Example:
        >>> from experiments import ConfigError, default_config, override
        >>> try:
        ...     override(default_config("parity"), ["transition.dimension=2"])
        ... except ConfigError as error:
        ...     print(str(error).partition(",")[0])
        unknown field 'transition.dimension'; nearest: transition.dim
    """


@dataclass(frozen=True)
class TaskConfig:
    """A task of any kind and its options, for instance `modulus`.

    Example:
        >>> from experiments import TaskConfig
        >>> TaskConfig("modular_arithmetic", {"modulus": 3}).make().labels
        ('0', '1', '2')
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

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
            if size is not None and size < 1:
                raise ValueError(f"{name} must be >= 1, got {size}")
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths must be one or more numbers >= 1, got {self.lengths}")
        if self.mixture is not None and not 1 <= self.mixture[0] <= self.mixture[1]:
            raise ValueError(f"mixture must be two lengths, the shorter first, got {self.mixture}")
        check_seed(self.seed)


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything a run depends on.

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


def check_seed(seed: int) -> None:
    """Refuses what jax would take modulo 2^32, so that two seeds would be one.

    Raises:
        ValueError: it is not between 0 and `LARGEST_SEED`.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed must be from 0 to {LARGEST_SEED}, got {seed}")


def default_config(task: str, **options: Any) -> ExperimentConfig:
    """The config recommended for a task: its model, its training and how it is measured.

    Args:
        task: a name of `experiments.problems.task_names()`, or of any group's word problem.
        **options: options of the task.

    Raises:
        ConfigError: there is no such task or option, or a value is wrong.

    Example:
        >>> from experiments import default_config
        >>> config = default_config("modular_arithmetic", modulus=3)
        >>> config.task.options
        {'modulus': 3}
    """
    config = TaskConfig(task, dict(options))
    return _default(config, _make_problem(config))


def _default(config: TaskConfig, problem: Problem) -> ExperimentConfig:
    try:
        training = problem.recommended_training()
    except (ValueError, OSError) as error:  # in the files that the task reads
        raise ConfigError(str(error)) from None
    evaluation = EvaluationConfig(lengths=problem.recommended_sizes())
    return ExperimentConfig(config, problem.recommended_model(), training, evaluation)


def to_document(config: ExperimentConfig) -> dict[str, Any]:
    """The config as nested dictionaries and lists, as YAML holds it."""
    document = _adapter().dump_python(config, mode="json")
    task = document["task"]
    document["task"] = {"name": task["name"], **task["options"]}
    return document


def from_document(document: Mapping[str, Any]) -> ExperimentConfig:
    """The config that a document describes; fields left out take their defaults.

    Raises:
        ConfigError: a field is unknown, missing or has a wrong value.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("task"), Mapping):
        raise ConfigError("a config needs a mapping 'task' with the field 'name'")
    task = dict(document["task"])
    if not isinstance(task.get("name"), str):
        raise ConfigError("task.name: the name of a task is expected (`plstm-seq tasks`)")
    name = task.pop("name")
    named = TaskConfig(name, task)
    problem = _make_problem(named)
    filled = dict(document) if _says_all(document) else _filled(document, named, problem)
    filled["task"] = {"name": name, "options": task}
    try:
        config = _adapter().validate_python(filled)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, filled)) from None
    read = to_document(config)
    _refuse_unknown({**document, "task": {}}, {**read, "task": {}}, ())
    _refuse_other_types(filled, read, ())
    try:
        problem.check_model(config.model)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if config.training.loss not in problem.losses:
        raise ConfigError(
            f"training.loss: got {config.training.loss!r}, expected one of "
            f"{', '.join(problem.losses)} for what {name} predicts"
        )
    if problem.axis != "length":
        _check_sized(config)
    check_consistency(config)
    return config


def _refuse_other_types(given: Any, read: Any, path: tuple[str, ...]) -> None:
    """Refuses a truth value or a text that became a number."""
    if isinstance(given, Mapping) and isinstance(read, Mapping):
        for name in given.keys() & read.keys():
            _refuse_other_types(given[name], read[name], (*path, str(name)))
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        for one, other in zip(given, read, strict=False):
            _refuse_other_types(one, other, path)
    elif isinstance(given, bool | str) and type(read) is not type(given):
        shown = scalars.dump(given, default_flow_style=True).splitlines()[0]
        raise ConfigError(f"{'.'.join(path)}: got {shown}, expected a number")


def check_consistency(config: ExperimentConfig) -> None:
    """Refuses a consistency term for a model that has no transitions by token.

    Raises:
        ConfigError: the model is one.
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


# What a document of an older version, or one that names a few fields, does not say.
_UNSAID = (
    ("model", "kind"),
    ("training", "loss"),
    ("training", "solved"),
    ("evaluation", "lengths"),
)


def _says_all(document: Mapping[str, Any]) -> bool:
    """Whether nothing of it follows from the task, as in the config of a run."""
    parts = (document.get(part) for part, _ in _UNSAID)
    fields = (name for _, name in _UNSAID)
    return all(
        isinstance(part, Mapping) and name in part for part, name in zip(parts, fields, strict=True)
    )


def _filled(document: Mapping[str, Any], task: TaskConfig, problem: Problem) -> dict[str, Any]:
    """The document with what follows from the task where it says nothing."""
    base = to_document(_default(task, problem))
    filled = {"model": base["model"], "training": base["training"], **document}
    for part, field_name in _UNSAID:
        given = filled.get(part, {})
        if field_name == "solved" and base["training"]["loss"] not in OF_NUMBERS:
            continue  # its own default is an accuracy
        if isinstance(given, Mapping):
            filled[part] = {field_name: base[part][field_name], **given}
    return filled


def _check_sized(config: ExperimentConfig) -> None:
    """Refuses for images, grids and graphs what sequences alone have."""
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
    """As `to_document`, without what has the default of its class; `from_document` reads it."""
    document = to_document(config)
    brief = _unlike_defaults(config, document)
    brief["task"] = document["task"]
    for part, name in _UNSAID:  # or the rest would be what follows from the task
        value = document[part][name]
        if isinstance(value, Mapping):
            value = {key: one for key, one in value.items() if one is not None}
        brief[part] = {name: value, **brief.get(part, {})}
    return brief


def _unlike_defaults(node: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one dataclass that differ from its defaults, and always its `kind`, first."""
    kept = {name: document[name] for name in ("kind",) if name in document}
    for one in dataclasses.fields(node):
        name, value = one.name, getattr(node, one.name)
        default = one.default
        if one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        if name in kept or name not in document:
            continue
        if type(value) is type(default) and value == default:
            continue
        inside = dataclasses.is_dataclass(value)
        kept[name] = _unlike_defaults(value, document[name]) if inside else document[name]
    return kept


def _make_problem(config: TaskConfig) -> Problem:
    try:
        return problem_of(config.make())
    except (ValueError, TypeError) as error:
        text = str(error)
        names_it = text.startswith(("task ", "unknown task"))
        raise ConfigError(text if names_it else f"task: {text}") from None


@functools.cache
def _adapter() -> pydantic.TypeAdapter[ExperimentConfig]:
    return pydantic.TypeAdapter(ExperimentConfig)


# Of an explanation: letters a mistake, and mistakes.
_LONGEST, _MOST_LINES = 300, 3


def _explain(error: pydantic.ValidationError, document: Mapping[str, Any]) -> str:
    """One line a mistake; of a union only what concerns the `kind` that the document names."""
    # How far a mistake is from what the document names -> place -> line.
    found: dict[int, dict[str, str]] = {}
    for entry in error.errors(include_url=False):
        path: list[str] = []
        node: Any = document
        misses = 0
        for part in entry["loc"]:
            if _holds(node, part):
                path.append(str(part))
                node = node[part]
            elif isinstance(node, Mapping) and "kind" in node and isinstance(part, str):
                misses += not _is_kind(part, node["kind"])
            elif entry["type"] == "missing":
                path.append(str(part))
        message = entry["msg"].removeprefix("Value error, ")
        got = "" if isinstance(entry["input"], Mapping) else f", got {shown(entry['input'], 100)}"
        got = "" if "got" in message else got
        place = ".".join(path)  # empty: the config as a whole
        line = f"{place}: {message[:_LONGEST]}{got}".removeprefix(": ")
        found.setdefault(misses, {})[place] = line
    likely = found[min(found)]
    if min(found):  # of kinds that the document does not name: what it says the most about
        deepest = max(place.count(".") for place in likely)
        likely = {place: line for place, line in likely.items() if place.count(".") == deepest}
    lines = list(likely.values())
    more = len(lines) - _MOST_LINES
    return "; ".join(lines[:_MOST_LINES]) + (f"; and {more} more" if more > 0 else "")


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)


def _is_kind(class_name: str, kind: Any) -> bool:
    return _kinds().get(class_name) == kind


@functools.cache
def _kinds() -> dict[str, str]:
    """The `kind` of every class that a config may hold, by the class's name."""
    kinds: dict[str, str] = {}
    left: list[Any] = [ExperimentConfig]
    seen: set[Any] = set()
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if not (isinstance(node, type) and dataclasses.is_dataclass(node)):
            left.extend(typing.get_args(node))
            continue
        kind = getattr(node, "kind", None)
        if isinstance(kind, str):
            kinds[node.__name__] = kind
        hints = typing.get_type_hints(node)
        left.extend(hints[field.name] for field in dataclasses.fields(node))
    return kinds


def _refuse_unknown(given: Any, known: Any, path: tuple[str, ...]) -> None:
    """Unknown fields are dropped by validation: whatever did not survive was unknown."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for name, value in given.items():
            where = ".".join((*path, str(name)))
            if name not in known:
                raise ConfigError(f"unknown field {where!r}; {nearest(str(name), list(known))}")
            _refuse_unknown(value, known[name], (*path, str(name)))
    elif isinstance(given, list) and isinstance(known, list):
        for index, (one, other) in enumerate(zip(given, known, strict=False)):
            _refuse_unknown(one, other, (*path, str(index)))
