"""The TPU kernel on the CPU: uninitialised memory is NaN, races are detected."""

from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu

from plstm_seq.ops.sequence.kernel import implementation_of
from plstm_seq.ops.sequence.mosaic_tpu import MosaicTPU

KERNEL = MosaicTPU(interpret=pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan"))
interpreted_tpu = implementation_of(KERNEL)


def race_found() -> bool:
    """Whether the last program that ran had one; jax has no public name for it."""
    races = interpret_pallas_call.races
    assert races is not None, "nothing ran under race detection"
    return races.races_found
