# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Comparing transition dimensions with a sweep
#
# What you learn: how to describe a sweep as a value, train its members in few programs, and read its
# table and figures; and what scalar and matrix transitions (JT = 1, 2, 3) do on the word problem of S3.
#
# Time: about two and a quarter minutes on two cores, much of it compiling.

# %%
# %matplotlib inline
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from IPython.display import display

from experiments import default_config, override
from experiments.presets import protocol_model
from experiments.results import figures, gather, readable, summarize, to_text
from experiments.sweeps import Sweep, create_sweep, product, run_sweep, vary

SMALL = os.environ.get("PLSTM_SEQ_SMALL") == "1"
FOLDER = tempfile.TemporaryDirectory()

# %% [markdown]
# ## The sweep
#
# `vary` lists the values of a field, `product` combines them. Members that differ in no shape (here: in
# the seed) are a *group*: one program, compiled once, trains all of them side by side.

# %%
LENGTHS = [4, 8, 16] if SMALL else [8, 16, 40, 64, 128, 256, 512]
# Stages by step, the same for every task: what `train` does by itself follows from the task instead.
fields = ["curriculum=staged", "stages=[[4,200],[8,100],[16,100],[40,400]]", "training.steps=800"]
fields += ["smallest_bucket=40", "final_fraction=0.1", "training.solved={threshold: 0.999}"]
fields += ["implementation=recurrent", "width=16", "training.batch_size=32"]
fields += [f"evaluation.lengths={LENGTHS}", "num_sequences=16" if SMALL else "num_sequences=256"]
if SMALL:
    fields += ["training.steps=20", "stages=[[8,20]]", "validate_every=20"]
base = override(replace(default_config("s3_word_problem"), model=protocol_model()), fields)
DIMS, SEEDS = ([2], range(2)) if SMALL else ([1, 2, 3], range(4))
settings = product(vary("transition.dim", DIMS), vary("seed", SEEDS))
folder = create_sweep(Sweep(base, tuple(settings)), Path(FOLDER.name) / "dimensions")
for group in folder.plan.groups:
    print(f"{group.name}: one program for {len(group.members)} members")

# %%
run_sweep(folder.path, progress=False)
frame = gather(folder.path)
print(f"{frame.height} rows: {frame['member'].n_unique()} members, metrics and lengths")

# %% [markdown]
# ## The table
#
# A row a setting, over its seeds: best, median, mean, and the share of seeds that solve the task (0.9
# of sequences right) with Wilson's interval.

# %%
for length in LENGTHS[2:4]:
    print(to_text(readable(summarize(frame, by=["transition.dim"], length=length))))

# %% [markdown]
# ## The figures
#
# Lines are medians over seeds, bands lie between the quartiles, the dotted line is the longest length
# in training.

# %%
figures.accuracy(frame, by=["transition.dim"], metric="token")

# %% [markdown]
# The horizon is the longest evaluated length up to which 0.9 of the sequences are right throughout; every
# seed is a dot, an open triangle where the longest evaluated length was passed.

# %%
if not SMALL:  # one JT has no such figure
    display(figures.horizon(frame))

# %% [markdown]
# With JT = 1 transitions are numbers, which commute, and S3 does not: no seed has a whole
# sequence of 40 right. With JT = 2 and 3 all four seeds solve lengths 40 and 64, and the median
# horizon of both is 64. From 128 on accuracy falls; the line of JT = 3 lies higher, but four
# seeds are few.
#
# The same from the command line, with learning rates and at equal cost, is in `docs/sweeps.md`:
# `plstm-seq sweep`, `results`, `compare`, `report`.
