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
# # Transitions: which matrices a family reaches, and what a model of A5 has learned
#
# What you learn: what the eigenvalues of a transition say; which of the matrices that a task needs
# each parametrisation can express; and how to find a group in a trained model, from the eigenvalues
# of its transitions to how far they carry.
#
# Time: about two minutes on two cores, half of it training and most of that compiling.

# %%
# %matplotlib inline
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from experiments import default_config, override, train
from experiments.plotting import COLOURS, LINES, MARKERS, styled
from experiments.presets import protocol_model
from experiments.probing import carry, task_group
from plstm_seq import probing
from plstm_seq.layers.initializers import FanIn, Zeros
from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
    Transition,
)

SMALL = os.environ.get("PLSTM_SEQ_SMALL") == "1"
RUNS = tempfile.TemporaryDirectory()

# %% [markdown]
# ## Eigenvalues
#
# A state is multiplied by a transition at every step. An eigenvalue on the unit circle keeps its part
# of the state, one inside it forgets; a negative one changes the sign at every step, a complex pair
# turns. `Transition` makes matrices of inputs; here 3 x 3 matrices of random inputs, with random
# weights. The points are their eigenvalues. (The inputs are large, so that one sees what a family
# can make and not only where it starts.)

# %%
FAMILIES = {
    "positive diagonal": Diagonal(dim=3, entries="positive"),
    "signed diagonal": Diagonal(dim=3),
    "rotations": Orthogonal(dim=3),
    "rotations and reflections": Orthogonal(dim=3, determinant="straight_through"),
    "1 Householder factor": HouseholderProduct(dim=3, num_reflections=1),
    "3 Householder factors": HouseholderProduct(dim=3, num_reflections=3),
    "bounded": Bounded(dim=3),
    "factorized": Factorized(
        dim=3,
        inproj_weight_init=FanIn(),
        outproj_weight_init=FanIn(),
        eigenvalue_weight_init=FanIn(0.3),
        eigenvalue_bias_init=Zeros(),
    ),
}
if SMALL:
    FAMILIES = {"rotations": FAMILIES["rotations"]}


def circle(axis):
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color="0.6", linewidth=0.8)
    axis.set(aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))


x = 6 * jax.random.normal(jax.random.key(0), (100, 8))
with styled():
    figure, axes = plt.subplots(
        2, 4, figsize=(9.2, 4.9), layout="constrained", sharex=True, sharey=True
    )
    for axis, (name, family) in zip(axes.flat, FAMILIES.items(), strict=False):
        layer = Transition(4, 8, family, rngs=nnx.Rngs(0))
        matrices = nnx.jit(lambda layer, x: layer(x))(layer, x)
        values = probing.spectrum(np.asarray(matrices)).eigenvalues.ravel()
        circle(axis)
        axis.plot(values.real, values.imag, ".", color=COLOURS[0], markersize=3, alpha=0.5)
        axis.set_title(name)
    figure.supxlabel("real part", fontsize="medium")
    figure.supylabel("imaginary part", fontsize="medium")

# %% [markdown]
# Diagonals have real eigenvalues; positive ones cannot change a sign. Rotations stay on the circle:
# +1 for the axis and a complex pair; reflections add -1. One Householder factor
# $1 - \beta k k^T$ has one eigenvalue between -1 and 1, and twice +1; a product of several has complex
# pairs too. Such products, bounded and factorized matrices have a norm of at most 1, and eigenvalues
# anywhere in the disc.
#
# ## What can be expressed
#
# The symmetries of three things need swaps (determinant -1) and 3-cycles (complex eigenvalues). Every
# family is fitted to both by gradient descent, from eight starts each. The number is the
# smallest squared distance found; zero: the family reaches the matrix.

# %%
TARGETS = {"swap": [1, 0, 2], "3-cycle": [1, 2, 0]}
STARTS, STEPS = 8, 400
targets = np.repeat([np.eye(3)[target] for target in TARGETS.values()], STARTS, axis=0)


@nnx.jit
def fit(layer):
    """The squared distance of every head from its target after the descent."""
    graphdef, start, others = nnx.split(layer, nnx.Param, ...)
    optimizer = optax.adam(0.05)

    def distances(parameters):
        matrices = nnx.merge(graphdef, parameters, others)(jnp.ones(4))
        return jnp.square(matrices - targets).sum((-1, -2))

    def step(carry, _):
        parameters, memory = carry
        gradient = jax.grad(lambda p: distances(p).sum())(parameters)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(parameters, updates), memory), None

    (found, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)
    return distances(found)


print(f"{'family':26}" + "".join(f"{name:>9}" for name in TARGETS))
for name, family in FAMILIES.items():
    layer = Transition(len(targets), 4, family, rngs=nnx.Rngs(1))
    best = np.asarray(fit(layer)).reshape(len(TARGETS), STARTS).min(axis=1)
    print(f"{name:26}" + "".join(f"{abs(number):9.2f}" for number in best))

# %% [markdown]
# Diagonals reach neither. A rotation stays 4 away from a swap, whose determinant is -1; with
# reflections both are reached. One Householder factor is symmetric: a swap, but no cycle. Of the rest
# all reach both; what they cost and how exactly they keep a state is in
# `plstm_seq/layers/README.md`.
#
# ## What A5 needs
#
# A5, the 60 rotations of an icosahedron, is the smallest group that is not solvable, and its word problem is
# complete for NC1. `probing.analyse` and the character table say what a model of it needs.

# %%
SETTINGS = ["transition=orthogonal", "transition.dim=3", "mixer.DK=2", "mixer.DV=3"]
SETTINGS += ["curriculum=staged", "final_fraction=0.1", "training.solved={threshold: 0.999}"]
SETTINGS += ["label_smoothing=0", "max_tokens=null"]
SETTINGS += ["implementation=recurrent", "training.batch_size=128", "validate_every=1050"]
SETTINGS += ["training.curriculum.fixed=true", "training.curriculum.smallest_bucket=4"]
if SMALL:
    SETTINGS += ["width=16", "num_heads=4", "training.steps=20", "stages=[[4,20]]"]
else:
    SETTINGS += ["num_heads=16", "training.steps=1050", "stages=[[4,800],[16,250]]"]
config = override(replace(default_config("a5_word_problem"), model=protocol_model()), SETTINGS)
task = config.task.make()
of = task_group(task)
found = probing.analyse(of.table, of.symbols, of.images)
characters = probing.character_table(of.table)
irreducibles = probing.real_irreducibles(of.table, characters)
print(f"{of.name}: {found.order} elements, solvable: {found.solvable}, so {found.complexity}")
print(f"irreducible real representations: {', '.join(irreducibles.names)}")
for members in found.classes:
    order = found.generator_orders[members[0]]
    print(f"  {len(members):2} elements of order {order}, such as {of.elements[members[0]]}")

# %% [markdown]
# The smallest representations in which no two elements are the same are the two of dimension 3, so
# JT = 3 is enough. A rotation by the angle $\theta$ has the eigenvalues $1, e^{\pm i \theta}$:
# an element of order 2 turns by 180 degrees, of order 3 by 120, of order 5 by 72 or 144, and which of
# the two classes turns by 72 is what tells the representation 3 from 3'.
#
# ## Training
#
# The model is told none of this. It has one layer of 16 heads with rotations as transitions, and sees
# products of 4 elements, then of 16.

# %%
run = train(config, Path(RUNS.name) / "a5", progress=False)
print(f"{run.status.status} after {run.status.step} steps")

# %% [markdown]
# ## Reading the transitions
#
# `record` keeps the gates of a model while it reads sequences, `by_token` averages them over the places
# where a symbol stands, and `realizations` restricts each head's transitions to the part of the state
# that is written and read. `homomorphism` holds them against the group: the defect is 0 where the
# matrices multiply as the elements do, and about 1.3 for rotations that have nothing to do with it.

# %%
recording = probing.record(run.model, task.sample(jax.random.key(1), 64, 64).inputs)
gates = probing.by_token(recording, num_tokens=len(task.vocabulary))
learned = [
    probing.homomorphism(part.transitions, of.table, of.symbols, of.composition)
    for part in probing.realizations(recording.layers[0], gates)
]
matched = probing.match_representations([head.action for head in learned], characters, irreducibles)
ranking = np.argsort([head.mean for head in learned])
for head in ranking[:4]:
    print(
        f"head {head:2}: defect {learned[head].mean:.3f}, nearest representation "
        f"{matched.label(head)} at distance {matched.distance[head]:.3f}"
    )

# %%
roots = np.concatenate([np.exp(2j * np.pi * np.arange(n) / n) for n in (2, 3, 5)])
with styled():
    chosen = [ranking[0], ranking[1], ranking[-1]]
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 3.8), layout="constrained", sharey=True)
    for axis, head in zip(axes, chosen, strict=True):
        values = probing.spectrum(learned[head].action).eigenvalues
        circle(axis)
        axis.plot(roots.real, roots.imag, "+", color="0.4", markersize=13)
        for number, members in enumerate(found.classes):
            points = values[list(members)].ravel()
            order = found.generator_orders[members[0]]
            look = {"color": COLOURS[number], "marker": MARKERS[number], "alpha": 0.7}
            label = f"{of.elements[members[0]]} (order {order})"
            axis.plot(points.real, points.imag, linestyle="none", label=label, markersize=4, **look)
        axis.set(xlabel="real part", title=f"head {head}: defect {learned[head].mean:.3f}")
    axes[0].set_ylabel("imaginary part")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)

# %% [markdown]
# Crosses: the roots of unity of orders 2, 3 and 5; colours: conjugacy classes, by one of their elements.
# Training found two heads whose eigenvalues lie on the crosses, all elements of a class on the same ones:
# order 2 at -1, order 3 at 120 degrees. In head 14 the class of (12354) turns by 72 degrees and that of
# (12345) by 144, in head 11 the other way round: the first is the representation 3' and the second the
# representation 3, of which either would do. In the head on the right even the identity turns the state; it is one
# of the 14 that the task did not need.
#
# ## How far it carries
#
# `exact_model` writes down the weights of a model that solves the word problem; with `noise` its
# transitions are near a representation. Beside them the model that was trained, on sequences much longer than
# the 16 symbols it has seen.

# %%
representation = probing.faithful_representation(of.table)
NOISES = [0.05] if SMALL else [0.0, 0.01, 0.03, 0.1]
LENGTHS = [4, 16, 32] if SMALL else [4, 16, 64, 256, 1024, 4096, 16384]


def noisy(noise):
    """Near the exact construction, and the defect of its transitions."""
    model = probing.exact_model(
        representation,
        of.symbols,
        composition=of.composition,
        noise=noise,
        implementation="recurrent",
    )
    tokens = jnp.arange(len(task.vocabulary))[None]
    matrices = probing.record(model, tokens).layers[0].transition[0, :, 0]
    return model, probing.homomorphism(matrices, of.table, of.symbols, of.composition).mean


models = {f"exact + noise {noise}" if noise else "exact": noisy(noise) for noise in NOISES}
models["trained"] = run.model, min(head.mean for head in learned)
with styled():
    figure, axis = plt.subplots(figsize=(6.8, 3.4), layout="constrained")
    for index, (name, (model, defect)) in enumerate(models.items()):
        carried = carry(model, task, LENGTHS)
        look = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": LINES[index % 4]}
        axis.plot(carried.lengths, carried.accuracy, label=f"{name}: {defect:.4f}", **look)
    axis.axhline(task.chance, color="0.5", linestyle="--", linewidth=0.8)
    axis.set(xlabel="length", ylabel="accuracy at the last position", ylim=(-0.03, 1.03))
    axis.set_xscale("log", base=2)
    axis.set_xticks(LENGTHS, map(str, LENGTHS))
    figure.legend(title="homomorphism defect", loc="outside right upper")

# %% [markdown]
# Errors of one step add up over steps: the larger the defect, the sooner the state is nearer to a
# wrong element. The trained model, whose sequences had 16 symbols at most, carries to 4,096, and at
# 16,384 three quarters of its answers are right. `docs/state_tracking.md` has models of A5 that
# were trained for longer, and what keeps a state from drifting.
#
# The same for any run, with more probes and a figure for each: `plstm-seq probe RUN`. Next:
# `03_chunkwise_algebra` shows how products of so many transitions are computed fast.
