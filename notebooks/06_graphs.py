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
# # Graphs: a state along every edge
#
# What you learn: what the line graph of a directed acyclic graph is; that on a path `plstm_dag` is
# `plstm_1d`; and how a pLSTM and a message-passing network (GIN), both trained on shallow Boolean
# formulas, do on deeper ones.
#
# Time: about a minute and a half on two cores, much of it compiling.

# %%
# %matplotlib inline
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import networkx as nx
from IPython.display import Image

import tasks
from experiments import default_config, evaluate, override, plot, train
from experiments.plotting import COLOURS, styled
from plstm_seq.graphs import from_networkx, line_graph
from plstm_seq.ops import plstm_1d, plstm_dag

SMALL = os.environ.get("PLSTM_SEQ_SMALL") == "1"
RUNS = tempfile.TemporaryDirectory()

# %% [markdown]
# ## The line graph
#
# A state lives on every edge. Where an edge enters the node that another leaves, a *line* hands the
# state on, multiplied by a transition. `LineGraph` holds edges and lines as index arrays, and the
# order in which they can be computed.

# %%
diamond = nx.DiGraph([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)])
graph = from_networkx(diamond, mode="PD")
names = [f"{tail}-{head}" for tail, head in zip(graph.tail, graph.head, strict=True)]
lines = nx.DiGraph()
lines.add_nodes_from(
    (name, {"level": level}) for name, level in zip(names, graph.level, strict=True)
)
for before, after, kept in zip(graph.before, graph.after, graph.multitree, strict=True):
    lines.add_edge(names[before], names[after], kept=bool(kept))
for level, layer in enumerate(nx.topological_generations(diamond)):
    for node in layer:
        diamond.nodes[node]["level"] = level
with styled():
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 2.4), layout="constrained")
    look = {"node_color": "0.88", "font_size": 9}
    place = nx.multipartite_layout(diamond, subset_key="level")
    nx.draw(diamond, place, axes[0], with_labels=True, node_size=500, **look)
    place = nx.multipartite_layout(lines, subset_key="level")
    styles = ["-" if kept else ":" for *_, kept in lines.edges(data="kept")]
    nx.draw(lines, place, axes[1], with_labels=True, node_size=900, style=styles, **look)
    for axis in axes:
        axis.margins(0.1, 0.25)
    axes[0].set_title("a graph")
    axes[1].set_title("its line graph; dotted: left out in D-mode")

# %% [markdown]
# Two ways lead from the first edge to the last. P-mode adds them up; D-mode leaves out lines until
# one way at most joins two edges, so that nothing can grow with the number of ways.
#
# ## On a path it is the recurrence
#
# The edge from step $t - 1$ to step $t$ has the source of $t - 1$ and the mark of $t$; the line through
# step $t$ has its transition.

# %%
T, JT, DK, DV = 32, 2, 4, 3
keys = jax.random.split(jax.random.key(0), 6)
shapes = [(DK, 1), (DK, 1), (DV, 1), (JT, 1, 1), (JT, JT), (1, 1, JT)]
query, key, value, source, transition, mark = (
    jax.random.normal(k, (T, *shape)) / 2 for k, shape in zip(keys, shapes, strict=True)
)
path = line_graph([range(T - 1), range(1, T)], T)
on_path = plstm_dag(query, key, value, source[:-1], transition[1:-1], mark[1:], graph=path)
in_time = plstm_1d(query, key, value, source, transition, mark)
print(f"largest output {jnp.abs(in_time).max():.2f}")
print(f"largest difference {jnp.abs(on_path - in_time).max():.1e}")

# %% [markdown]
# ## Boolean formulas
#
# `dag_boolean` draws trees of AND, OR, NOT and XOR over constants. The label of every inner node is its
# value; edges lead from the constants to the root.

# %%
task = tasks.get_graph("dag_boolean")
example = task.draw(5, 1, 3)
tree = nx.DiGraph()
tree.add_nodes_from(range(len(example.nodes)))
tree.add_edges_from(example.edge_index.T.tolist())
for height, layer in enumerate(nx.topological_generations(tree.reverse())):
    for node in layer:
        tree.nodes[node]["layer"] = -height
symbols = {node: task.vocabulary[symbol] for node, symbol in enumerate(example.nodes)}
colours = [
    COLOURS[1 + 4 * int(target)] if scored else "0.88"
    for target, scored in zip(example.targets, example.mask, strict=True)
]
with styled():
    figure, axis = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
    place = nx.multipartite_layout(tree, subset_key="layer", align="horizontal")
    nx.draw(tree, place, axis, labels=symbols, node_color=colours, node_size=700, font_size=8)
print(task.decode(example.edge_index, example.nodes, example.graph)[0])
print(f"orange: the value is {task.labels[0]}, light blue: {task.labels[1]}; grey: constants")

# %% [markdown]
# ## Shallow in training, deep in evaluation
#
# Both models have three layers of width 32 and see formulas of depth 3 alone: enough for a GIN, whose
# three layers see three edges far. Then both are evaluated on deeper formulas.

# %%
DEPTHS = [2, 3] if SMALL else [3, 4, 6, 8, 12]
words = ["num_blocks=3", "width=32", "training.batch_size=32", "learning_rate=3e-3"]
words += ["training.steps=900", "stages=[[3,900]]"]
if SMALL:
    words += ["num_blocks=1", "training.steps=20", "stages=[[2,20]]", "training.batch_size=8"]
MODELS = {"pLSTM, P-mode": "mode=P", "GIN": "mixer=gin"}
runs = []
for number, (name, word) in enumerate(MODELS.items()):
    config = override(default_config("dag_boolean"), [word, *words])
    run = train(config, Path(RUNS.name) / str(number), progress=False)
    evaluate(run, DEPTHS, num_sequences=16 if SMALL else 256)
    print(f"{name}: {run.status.status} after {run.status.step} steps")
    runs.append(run)

# %%
files = plot(runs, Path(RUNS.name) / "depth", labels=list(MODELS))
print(f"{'':23}" + "".join(f"{depth:>7}" for depth in DEPTHS))
for name, run in zip(MODELS, runs, strict=True):
    frame = run.evaluation
    for metric, what in (("token", "nodes"), ("sequence", "trees")):
        values = frame.filter(frame["metric"] == metric).sort("length")["value"]
        print(f"{name:14} {what:8}" + "".join(f"{value:7.3f}" for value in values))
Image(files[0].read_bytes(), width=720)

# %% [markdown]
# Left ("token") the share of nodes that are right, right ("sequence") of trees with every node
# right; the dotted line is the depth in training. There both models are nearly perfect, the GIN
# even a little better. One level deeper the GIN has 0.64 of the trees, at depth 12 hardly any; the
# pLSTM has 0.95 and 0.67. A layer of it sees all that lies below a node, at any depth, so that what
# it learned of the operators goes on working; it is not exact, and errors add up with depth.
#
# One seed each. `docs/graphs.md` has a longer training, to depth 16; the op's equations and how levels
# of lines are computed at once are in `plstm_seq/ops/dag/README.md`.
