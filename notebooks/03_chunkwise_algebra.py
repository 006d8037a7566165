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
# # The chunkwise algebra: a tree of levels instead of a loop
#
# What you learn: how a recurrence with matrices is computed for many steps at once without ever
# inverting a matrix, written out in numpy on 16 steps; that the result is that of the loop, also
# where transitions are zero; and what it gains.
#
# Time: half a minute to two minutes, by how busy the CPU is.

# %%
# %matplotlib inline
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments.plotting import COLOURS, MARKERS, styled
from plstm_seq.ops import plstm_1d

SMALL = os.environ.get("PLSTM_SEQ_SMALL") == "1"

# %% [markdown]
# ## The recurrence
#
# With `JT x JT` transitions $T_t$, sources $s_t$, marks $m_t$, keys, values and queries (one source and mark
# dimension here, no direct term),
#
# $$y_t = m_t \cdot q_t \cdot C_{t-1}, \qquad C_t = T_t C_{t-1} + s_t k_t v_t .$$
#
# Step $b$ reaches step $a > b$ through the gate $m_a T_{a-1} \cdots T_{b+1} s_b$. Some of the 16
# steps below forget half of the state, and two all of it: their transitions are exactly zero.

# %%
L, JT, DK, DV = 16, 3, 4, 5
random = np.random.default_rng(0)
query, key = random.normal(size=(2, L, DK))
value = random.normal(size=(L, DV))
source, mark = random.normal(size=(2, L, JT))
transition = np.linalg.qr(random.normal(size=(L, JT, JT)))[0]
transition[::4] *= 0.5
transition[[5, 11]] = 0


def loop():
    state, outputs = np.zeros((DK, DV, JT)), []
    for t in range(L):
        outputs.append(np.einsum("i,k,kvi->v", mark[t], query[t], state))
        written = np.einsum("i,k,v->kvi", source[t], key[t], value[t])
        state = np.einsum("ij,kvj->kvi", transition[t], state) + written
    return np.stack(outputs)


# %% [markdown]
# ## Where two steps meet
#
# Cut the 16 steps into blocks of 1, 2, 4, 8. A pair $b < a$ meets at exactly one level $l$: the one
# where $a$ lies in a right child and $b$ in the left sibling.

# %%
a, b = np.indices((L, L))
level = np.full((L, L), -1)
for n in range(4):
    level[((a >> n) % 2 == 1) & (b >> n == (a >> n) - 1)] = n
with styled():
    figure, axis = plt.subplots(figsize=(4.4, 3.8), layout="constrained")
    shown = axis.imshow(np.where(level < 0, np.nan, level), cmap="viridis")
    axis.grid(visible=False)
    axis.set(xticks=range(0, L, 4), yticks=range(0, L, 4))
    axis.set(xlabel="step b, which writes", ylabel="step a, which reads", title="level of a pair")
    figure.colorbar(shown, ticks=range(4))

# %% [markdown]
# So it is enough to know, on every level, each mark brought to the *start* of its block and each
# source brought to the *end* of its block; then the gate of a pair is one product of the two. From
# level to level a right sibling's marks are multiplied by the left block's transition, a left
# sibling's sources by the right block's. Only products, so a zero does no harm; forms that divide by
# a product of transitions fail on it.

# %%


def tree():
    marks, sources, blocks = mark.copy(), source.copy(), transition.copy()
    scores, outputs = query @ key.T, np.zeros((L, DV))
    for n in range(4):
        gate = np.where(level == n, marks @ sources.T, 0)
        outputs += (gate * scores) @ value
        block = np.arange(L) >> n
        for t in range(L):
            if block[t] % 2 == 1:
                marks[t] = marks[t] @ blocks[block[t] - 1]
            else:
                sources[t] = blocks[block[t] + 1] @ sources[t]
        blocks = blocks[1::2] @ blocks[0::2]
    return outputs


print(f"largest difference between tree and loop: {np.abs(tree() - loop()).max():.1e}")

# %% [markdown]
# ## The same in the library
#
# `plstm_1d` takes the arrays with all their axes. Its implementations `recurrent` (the loop) and
# `chunkwise` (chunks of such trees, with the state handed from chunk to chunk) agree with ours.


# %%
def arguments(*arrays):
    q, k, v, s, t, m = (jnp.asarray(x, jnp.float32) for x in arrays)
    gates = s[..., None, None], t, m[..., None, None, :]
    return q[..., None], k[..., None], v[..., None], *gates


inputs = arguments(query, key, value, source, transition, mark)
for name in ("recurrent", "chunkwise"):
    output = plstm_1d(*inputs, scale=1.0, implementation=name)[..., 0]
    print(f"{name:9} from the loop in numpy: {np.abs(output - loop()).max():.1e}")

# %% [markdown]
# ## Speed
#
# Forward pass on this machine, 8 sequences, JT = 4, best of some calls, compiled beforehand. The loop
# does one small step after another; the tree does large products. Both grow linearly with length.


# %%
def milliseconds(name, length):
    keys = jax.random.split(jax.random.key(length), 6)
    shapes = [(32,), (32,), (16,), (4,), (4, 4), (4,)]
    arrays = [jax.random.normal(k, (8, length, *s)) for k, s in zip(keys, shapes, strict=True)]
    arrays[4] = arrays[4] / 4
    inputs = arguments(*arrays)
    run = jax.jit(lambda *x: plstm_1d(*x, implementation=name))
    run(*inputs).block_until_ready()
    best = np.inf
    for _ in range(3 if SMALL else 10):
        began = time.perf_counter()
        run(*inputs).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


SIZES = [128, 256] if SMALL else [128, 512, 1024, 2048, 4096]
times = {name: [milliseconds(name, n) for n in SIZES] for name in ("recurrent", "chunkwise")}
with styled():
    figure, axis = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    for index, (name, values) in enumerate(times.items()):
        axis.plot(SIZES, values, color=COLOURS[index], marker=MARKERS[index], label=name)
    axis.set(xlabel="length", ylabel="milliseconds", xscale="log", yscale="log", ylim=(None, None))
    axis.minorticks_off()
    axis.set_xticks(SIZES, map(str, SIZES))
    axis.legend()
for place, n in enumerate(SIZES):
    ratio = times["recurrent"][place] / times["chunkwise"][place]
    print(f"length {n}: the loop takes {ratio:.1f} times as long")

# %% [markdown]
# The ratio depends on the device and on what else it does; `docs/speed.md` has measurements with
# named devices, also of the kernels for GPUs, which build the levels inside the kernel. The
# derivation is in `plstm_seq/ops/sequence/README.md`.
