"""Where the records of a training go."""

from plstm_seq.training.trackers.base import TIMING_FIELDS, CompositeTracker, Record, Tracker
from plstm_seq.training.trackers.jsonl import DamagedRecordsError, JsonlTracker, read_jsonl
from plstm_seq.training.trackers.progress import ProgressTracker
from plstm_seq.training.trackers.tensorboard import TensorBoardTracker
from plstm_seq.training.trackers.wandb import WandbTracker

__all__ = [
    "TIMING_FIELDS",
    "CompositeTracker",
    "DamagedRecordsError",
    "JsonlTracker",
    "ProgressTracker",
    "Record",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "read_jsonl",
]
