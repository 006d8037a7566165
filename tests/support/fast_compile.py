"""`jax.jit` for tests of large programs over tiny arrays, where compiling is all of the time."""

import functools

import jax

_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def supported_options() -> dict[str, int | bool]:
    """Those of the options that this version of XLA knows; it raises on others."""
    supported = {}
    for name, value in _OPTIONS.items():
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value})(0.0)
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
        else:
            supported[name] = value
    return supported


def fast_jit(function, **options):
    """`jax.jit`, compiled with little care; the backend starts at the first call."""

    @functools.cache
    def compiled():
        return jax.jit(function, compiler_options=supported_options(), **options)

    @functools.wraps(function)
    def call(*arguments, **named):
        return compiled()(*arguments, **named)

    return call
