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
# # State tracking: parity, S3, and the size of a transition
#
# What you learn: how to train and evaluate a model in Python; that a number as transition is enough
# for parity, if it can be negative, and that the word problem of S3 needs matrices; and how to see
# both in the transitions that were learned.
#
# Time: about two and a half minutes on two busy cores, most of it compiling.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

from experiments import default_config, evaluate, override, plot, train
from experiments.plotting import COLOURS, MARKERS, styled
from experiments.presets import protocol_model
from plstm_seq import probing

SMALL = os.environ.get("PLSTM_SEQ_SMALL") == "1"
RUNS = tempfile.TemporaryDirectory()

# %% [markdown]
# ## Three runs
#
# `default_config` gives the recipe that `plstm-seq train TASK` uses, which follows from the task. Here all
# tasks get one recipe, that of the published protocols, so that transitions alone differ; `override` changes
# fields, named as on the command line. All models have one layer of width 32. Sequences in training have up
# to 40 symbols, first of 4.
#
# - *Parity*: is the number of ones so far odd? With a scalar transition between -1 and 1.
# - *S3*: the product so far of permutations of three things, one symbol a permutation. Once with a
#   scalar between -1 and 1 (`JT = 1`), once with 2 x 2 matrices (`JT = 2`).

# %%
# Stages by step, the same for every task: what `train` does by itself follows from the task instead.
TRAINING = ["curriculum=staged", "stages=[[4,200],[8,100],[16,100],[40,400]]", "training.steps=800"]
TRAINING += ["smallest_bucket=40", "final_fraction=0.1", "training.solved={threshold: 0.999}"]
SHARED = [*TRAINING, "implementation=recurrent", "width=32", "training.batch_size=32"]
if SMALL:
    SHARED += ["training.steps=60", "stages=[[4,40],[16,20]]", "validate_every=60"]
SCALAR = ["transition=diagonal", "transition.dim=1", "transition.entries=signed"]
SETTINGS = {
    "parity, JT = 1": ("parity", SCALAR),
    "S3, JT = 1": ("s3_word_problem", SCALAR),
    "S3, JT = 2": ("s3_word_problem", ["transition.dim=2"]),
}
if SMALL:
    del SETTINGS["S3, JT = 1"]

runs = {}
for number, (name, (task, fields)) in enumerate(SETTINGS.items()):
    recipe = replace(default_config(task), model=protocol_model())
    config = override(recipe, [*SHARED, *fields])
    runs[name] = train(config, Path(RUNS.name) / str(number), progress=False)
    print(f"{name}: {runs[name].status.status} after {runs[name].status.step} steps")

# %% [markdown]
# ## Accuracy against length
#
# `evaluate` reads fresh sequences of the longest length once, and measures at every length on the
# way. *Token* accuracy is the mean over all positions, *sequence* accuracy the share of sequences
# without any error. The dotted line is the longest length in training.

# %%
LENGTHS = [8, 16, 32, 64] if SMALL else [8, 16, 40, 64, 128, 256, 512, 1024]
for run in runs.values():
    evaluate(run, LENGTHS, num_sequences=64 if SMALL else 256)
files = plot(list(runs.values()), Path(RUNS.name) / "accuracy", labels=list(runs))
Image(files[0].read_bytes(), width=720)

# %%
for name, run in runs.items():
    frame = run.evaluation
    last = frame.filter((frame["metric"] == "token") & (frame["length"] == LENGTHS[-1]))
    print(f"{name:15} token accuracy at {LENGTHS[-1]}: {last['value'][0]:.3f}")

# %% [markdown]
# Parity is learned, and holds far beyond the lengths of training. (With a scalar in [0, 1],
# `transition.entries=positive`, it is not: `plstm-seq quickstart` shows it.) On S3 a signed scalar
# can count how many swaps there were, odd or even, and no more: numbers commute, permutations do
# not. Two by two matrices do not commute either, and learn it; the curve shows where it ends.
#
# ## See why: the learned transitions
#
# `probing.record` runs a model and keeps its gates; `by_token` averages the transition of each
# symbol over the places where it stands. Each point is an eigenvalue of one symbol in one head. On
# the unit circle (grey) a state is kept for ever; inside it is forgotten.

# %%
with styled():
    figure, axes = plt.subplots(
        1, len(runs), figsize=(3.2 * len(runs), 3.6), layout="constrained", sharey=True
    )
    for axis, (name, run) in zip(axes, runs.items(), strict=True):
        tokens = run.task.sample(jax.random.key(1), 16, 16 if SMALL else 40).inputs
        recording = probing.record(run.model, tokens)
        gates = probing.by_token(recording, num_tokens=len(run.task.vocabulary))
        values = probing.spectrum(gates.transitions).eigenvalues
        turn = np.linspace(0, 2 * np.pi, 200)
        axis.plot(np.cos(turn), np.sin(turn), color="0.6", linewidth=0.8)
        for token, symbol in enumerate(run.task.vocabulary):
            points = values[token].ravel()
            look = {"color": COLOURS[token], "marker": MARKERS[token], "alpha": 0.7}
            axis.plot(points.real, points.imag, linestyle="none", label=symbol, **look)
        axis.set(title=name, xlabel="real part", aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
        axis.legend(loc="lower center", ncols=3, fontsize=7)
    axes[0].set_ylabel("imaginary part")

# %% [markdown]
# Parity: some heads have an eigenvalue near +1 for the symbol `0` and near -1 for `1`; the state of such
# a head changes its sign at every one, which is parity. S3 with matrices: a swap is a reflection, with
# eigenvalues +1 and -1; a rotation of three things has the complex pair $e^{\pm 2 \pi i / 3}$; the
# identity has +1 twice. Heads that found such matrices carry the product of the permutations, and a
# scalar has no complex pair. The further the eigenvalues are inside the circle, the sooner a state
# is forgotten.
#
# Next: `02_transitions` looks at what each family of matrices can express.
