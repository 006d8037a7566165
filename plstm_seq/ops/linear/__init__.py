"""Linear recurrences of the baselines: gated delta rule, diagonal, column one-hot (README.md)."""

from plstm_seq.ops.linear.delta import gated_delta_rule
from plstm_seq.ops.linear.scans import column_one_hot_recurrence, diagonal_recurrence

__all__ = ["column_one_hot_recurrence", "diagonal_recurrence", "gated_delta_rule"]
