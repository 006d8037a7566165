"""Sweeps train many runs whose configs differ in some fields, in as few programs as possible.

A sweep is a value that can be compared and written, and a folder that holds its runs:

sweep = Sweep(default_config("s3_word_problem"),
              product(vary("transition.dim", [1, 2, 4]), vary("seed", range(8))))
folder = create_sweep(sweep, "sweeps/dimensions")
run_sweep(folder.path)
"""

from experiments.sweeps.folder import SweepFolder, create_sweep, open_sweep
from experiments.sweeps.launch import MemberStatus, run_sweep, status
from experiments.sweeps.plan import GroupPlan, MemberPlan, Plan, group_key, plan
from experiments.sweeps.sweep import Sweep, read_sweep, sweep_of_words
from experiments.sweeps.values import chain, product, vary, zip_together

__all__ = [
    "GroupPlan",
    "MemberPlan",
    "MemberStatus",
    "Plan",
    "Sweep",
    "SweepFolder",
    "chain",
    "create_sweep",
    "group_key",
    "open_sweep",
    "plan",
    "product",
    "read_sweep",
    "run_sweep",
    "status",
    "sweep_of_words",
    "vary",
    "zip_together",
]
