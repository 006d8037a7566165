"""Evaluation: at which lengths beyond those of training a model is still right. Knows no task.

result = length_generalization(model, Stream(task.draw, task.start, task.advance),
                               [64, 256, 4096], chance=task.chance, key=jax.random.key(1))
print(result.horizon("sequence", 0.9))
write_parquet("run/evaluation.parquet", result, seed=0)
"""

from plstm_seq.evaluation.length import (
    AVERAGED,
    HORIZON_THRESHOLDS,
    METRICS,
    MIXTURE,
    Axis,
    LengthGeneralization,
    Row,
    length_generalization,
    mixture_of_lengths,
)
from plstm_seq.evaluation.metrics import (
    Estimate,
    Horizon,
    bootstrap,
    horizon,
    scaled,
    wilson,
)
from plstm_seq.evaluation.outcomes import Bookmark, Outcomes, Place
from plstm_seq.evaluation.size import size_generalization
from plstm_seq.evaluation.snapping import SNAPPED, Prototypes, Snapped, learn_prototypes
from plstm_seq.evaluation.sources import Sample, Stream
from plstm_seq.evaluation.table import (
    Asked,
    add_rows,
    choose_rows,
    complete_sets,
    filled,
    read_parquet,
    to_frame,
    write_parquet,
)

__all__ = [
    "AVERAGED",
    "HORIZON_THRESHOLDS",
    "METRICS",
    "MIXTURE",
    "SNAPPED",
    "Asked",
    "Axis",
    "Bookmark",
    "Estimate",
    "Horizon",
    "LengthGeneralization",
    "Outcomes",
    "Place",
    "Prototypes",
    "Row",
    "Sample",
    "Snapped",
    "Stream",
    "add_rows",
    "bootstrap",
    "choose_rows",
    "complete_sets",
    "filled",
    "horizon",
    "learn_prototypes",
    "length_generalization",
    "mixture_of_lengths",
    "read_parquet",
    "scaled",
    "size_generalization",
    "to_frame",
    "wilson",
    "write_parquet",
]
