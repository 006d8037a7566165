"""Tests run on the CPU, with float64 available; what is meant to be float32 says so.

Programs are compiled with few optimisations, since most of the suite's time is compiling; what
depends on the optimised program (memory, end to end runs) is tested in processes of its own.
"""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
