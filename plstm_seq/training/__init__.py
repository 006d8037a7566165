"""Training: one step, many steps, checkpoints, trackers. Knows no task.

config = TrainingConfig(steps=500, curriculum=Staged(((4, 100), (40, 400))))
result = fit(model, task.sample, config, key=jax.random.key(0), folder="run/checkpoints",
             trackers=[JsonlTracker("run/metrics.jsonl"), ProgressTracker()])
"""

from plstm_seq.batches import Examples, HostSample, Sample
from plstm_seq.training.checkpoint import Checkpoint, Checkpoints, load_model, load_parameters
from plstm_seq.training.config import Solved, TrainingConfig
from plstm_seq.training.curriculum import ByAccuracy, Curriculum, Sizes, Staged, Uniform
from plstm_seq.training.devices import data_mesh
from plstm_seq.training.engine import Member
from plstm_seq.training.ledger import FitResult, NonFiniteLossError
from plstm_seq.training.loop import fit, fit_members
from plstm_seq.training.manifest import CorruptCheckpointError
from plstm_seq.training.optimizer import (
    OptimizerConfig,
    is_decayed,
    make_optimizer,
    with_hyperparameters,
)
from plstm_seq.training.records import TIMING_FIELDS, DamagedRecordsError, JsonlTracker, read_jsonl
from plstm_seq.training.step import (
    LengthRange,
    TrainState,
    init_state,
    make_dispatch,
    make_train_step,
)
from plstm_seq.training.trackers import (
    CompositeTracker,
    ProgressTracker,
    TensorBoardTracker,
    Tracker,
    WandbTracker,
)

__all__ = [
    "TIMING_FIELDS",
    "ByAccuracy",
    "Checkpoint",
    "Checkpoints",
    "CompositeTracker",
    "CorruptCheckpointError",
    "Curriculum",
    "DamagedRecordsError",
    "Examples",
    "FitResult",
    "HostSample",
    "JsonlTracker",
    "LengthRange",
    "Member",
    "NonFiniteLossError",
    "OptimizerConfig",
    "ProgressTracker",
    "Sample",
    "Sizes",
    "Solved",
    "Staged",
    "TensorBoardTracker",
    "Tracker",
    "TrainState",
    "TrainingConfig",
    "Uniform",
    "WandbTracker",
    "data_mesh",
    "fit",
    "fit_members",
    "init_state",
    "is_decayed",
    "load_model",
    "load_parameters",
    "make_dispatch",
    "make_optimizer",
    "make_train_step",
    "read_jsonl",
    "with_hyperparameters",
]
