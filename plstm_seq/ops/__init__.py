"""Array operations: functions from arrays to arrays that need nothing but jax."""

from plstm_seq.ops.dag.api import plstm_dag
from plstm_seq.ops.grid.api import plstm_2d
from plstm_seq.ops.grid.oriented import plstm_2d_oriented
from plstm_seq.ops.sequence.api import plstm_1d, plstm_1d_step

__all__ = ["plstm_1d", "plstm_1d_step", "plstm_2d", "plstm_2d_oriented", "plstm_dag"]
