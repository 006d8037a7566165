"""The tolerances of all tests, in one place: contracts, not knobs; relative to the maximum."""

# Two ways of computing the same thing, in the type of the computation.
AGREEMENT = {"float64": 1e-10, "float32": 1e-5, "bfloat16": 1e-2}
GRADIENT_AGREEMENT = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 2e-2}
