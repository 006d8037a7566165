"""Puts tasks and the library together: configs, runs, training, evaluation, figures, command line.

Every command of `plstm-seq` calls a function that Python code can call as well, for instance:

run = train(default_config("s3_word_problem"), "runs/s3")
result = evaluate(run, [64, 256, 4096])
plot([run], "runs/s3/accuracy_against_length")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plstm_seq.command import check_names

if TYPE_CHECKING:
    from experiments.config import (
        ConfigError,
        EvaluationConfig,
        ExperimentConfig,
        TaskConfig,
        default_config,
    )
    from experiments.config_files import read_config, write_config
    from experiments.cross_validation import CrossValidation, cross_validate
    from experiments.decoding import Decoded, decode
    from experiments.demonstration import quickstart
    from experiments.evaluating import evaluate
    from experiments.overrides import override
    from experiments.plotting import draw_examples, plot
    from experiments.probing import probe
    from experiments.problems.demanding import Demands, TaskForm, demands, linear_form
    from experiments.rounding import round_run
    from experiments.run import Run, RunError, load_run
    from experiments.running import train

__all__ = [
    "ConfigError",
    "CrossValidation",
    "Decoded",
    "Demands",
    "EvaluationConfig",
    "ExperimentConfig",
    "Run",
    "RunError",
    "TaskConfig",
    "TaskForm",
    "cross_validate",
    "decode",
    "default_config",
    "demands",
    "draw_examples",
    "evaluate",
    "linear_form",
    "load_run",
    "override",
    "plot",
    "probe",
    "quickstart",
    "read_config",
    "round_run",
    "train",
    "write_config",
]

_MODULES = {
    "config": (
        "ConfigError",
        "EvaluationConfig",
        "ExperimentConfig",
        "TaskConfig",
        "default_config",
    ),
    "config_files": ("read_config", "write_config"),
    "cross_validation": ("CrossValidation", "cross_validate"),
    "decoding": ("Decoded", "decode"),
    "demonstration": ("quickstart",),
    "evaluating": ("evaluate",),
    "overrides": ("override",),
    "plotting": ("draw_examples", "plot"),
    "probing": ("probe",),
    "problems.demanding": ("Demands", "TaskForm", "demands", "linear_form"),
    "rounding": ("round_run",),
    "run": ("Run", "RunError", "load_run"),
    "running": ("train",),
}
check_names()
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
# A name is imported when it is first used, so that `plstm-seq --help` need not wait for jax.
# A module of this package becomes an attribute of the package only when it is imported.


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
