"""Computes how a signal fades or grows along a grid in P-mode, in D-mode and without a mode.

python benchmarks/stability_2d.py              writes results/stability_2d.json and
                                               docs/stability_2d.svg

One cell writes a unit vector. "forward" is the length of the state on edges to the right, the
largest of all such edges at a distance. "gradient" is the length of the gradient of the state on
one far edge with respect to what each cell writes. The gates are those of the layer's modes.
Source: arXiv 2506.11997, section 4.3.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from measure import write

from experiments.plotting import COLOURS, LINES, styled
from plstm_seq.layers.grid.gates import EdgeGates, d_gates, p_gates
from plstm_seq.ops import plstm_2d

FIGURE = Path(__file__).parents[1] / "docs" / "stability_2d.svg"


def rotations(angles: Array) -> Array:
    """Return the rotations [..., 2, 2] by angles [...]."""
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    return jnp.stack([jnp.stack([cosine, -sine], -1), jnp.stack([sine, cosine], -1)], -2)


def constant(side: int, transition: Array, share: float = 0.5) -> Callable[[str], Array]:
    """Make P-mode gates that are the same at every cell; source and mark are the identity."""
    J = transition.shape[-1]
    identity = jnp.eye(J)
    gates = {
        "orientation": jnp.asarray(share),
        "source": identity[:, None],
        "mark": identity[:, None],
        "transition": transition,
    }
    return lambda name: jnp.broadcast_to(gates[name], (side, side, *gates[name].shape))


def random_rotations(side: int) -> Callable[[str], Array]:
    """Make D-mode gates with a different rotation for every cell and edge."""
    keys = iter(jax.random.split(jax.random.key(0), 3))
    identity = jnp.broadcast_to(jnp.eye(2)[:, None], (side, side, 2, 1, 2))

    def gate(name: str) -> Array:
        if not name.startswith("transition"):
            return identity
        return rotations(jax.random.uniform(next(keys), (side, side), maxval=2 * jnp.pi))

    return gate


def unrestricted(side: int) -> EdgeGates:
    """Make gates whose four transitions are 1, so that all paths between two cells add up."""
    gates = p_gates(constant(side, jnp.eye(1)), "shared")
    return EdgeGates(*(gate / gate.max() for gate in gates if gate is not None))


def cases(side: int) -> dict[str, EdgeGates]:
    """Return the gates of each curve, by its label."""
    rotation = rotations(jnp.asarray(0.3))
    return {
        "P-mode, a = 1/2, a rotation": p_gates(constant(side, rotation), "shared"),
        "P-mode, a = 1/5, T = 1": p_gates(constant(side, jnp.eye(1), 0.2), "shared"),
        "D-mode, random rotations": d_gates(random_rotations(side), "L"),
        "no mode, all four T = 1": unrestricted(side),
        "published P-mode, a rotation": p_gates(constant(side, rotation), "published"),
    }


def signals(gates: EdgeGates) -> tuple[np.ndarray, np.ndarray]:
    """Measure a signal from the first cell, and its gradient from the last cell.

    Returns:
        The largest forward length and the largest gradient length at the distances 1, 2, ...
    """
    side, _, J = gates.source_right.shape[:3]
    gates = gates._replace(mark_up=jnp.zeros_like(gates.mark_up))  # cells only read from the left
    one = jnp.ones((side, side, 1, 1))
    unit = jnp.eye(J)[0]

    @jax.jit
    def read(value: Array) -> Array:
        output: Any = plstm_2d(one, one, value, *gates, scale=1.0, implementation="recurrent")
        return output[..., 0, :]

    written = jnp.zeros((side, side, 1, J)).at[0, 0, 0].set(unit)
    output, vjp = jax.vjp(read, written)
    (gradient,) = vjp(jnp.zeros_like(output).at[-1, -1].set(unit))
    forward = np.linalg.norm(np.asarray(output), axis=-1)
    backward = np.linalg.norm(np.asarray(gradient[:, :, 0]), axis=-1)[::-1, ::-1]
    return largest(forward), largest(backward)


def largest(lengths: np.ndarray) -> np.ndarray:
    """Return the largest entry at each distance from the first cell, from 1 to the grid's side."""
    distances = np.add.outer(*map(np.arange, lengths.shape))
    return np.array([lengths[distances == d].max() for d in range(1, len(lengths))])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot forward and gradient next to each other, with logarithmic axes."""
    distances = np.arange(1, len(rows[0]["forward"]) + 1)
    with styled():
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, what in zip(panels, ("forward", "gradient"), strict=True):
            for index, row in enumerate(rows):
                style = {"color": COLOURS[index], "linestyle": LINES[index % len(LINES)]}
                axes.plot(distances, row[what], label=row["gates"], **style)
            fading = 1 / np.sqrt(2 * np.pi * distances)
            axes.plot(distances, fading, color="black", linewidth=0.6, label="(2 pi d)^(-1/2)")
            axes.set(xscale="log", yscale="log", xlabel="distance d in cells", title=what)
            axes.set_ylim(1e-2, 1e6)
        panels[0].set_ylabel("length of the signal")
        panels[0].legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Compute the signals, write them and draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=128, help="side of the square grid")
    parser.add_argument("--name", default="stability_2d", help="name of the results file")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # growing signals overflow float32
    rows: list[dict[str, Any]] = []
    for name, gates in cases(arguments.side).items():
        forward, gradient = signals(gates)
        half = len(forward) // 2
        slope = np.log(forward[-1] / forward[half]) / np.log(len(forward) / (half + 1))
        rate = (forward[-1] / forward[half]) ** (1 / (len(forward) - half - 1))
        print(f"{name}: power {slope:.3f}, growth a cell {rate:.4f}, last {forward[-1]:.3g}")
        about = {"gates": name, "power": float(slope), "growth": float(rate)}
        curves = {"forward": forward, "gradient": gradient}
        rows.append(about | {key: [float(f"{x:.5g}") for x in v] for key, v in curves.items()})
    print(write(arguments.name, rows, side=arguments.side))
    draw(rows, FIGURE)


if __name__ == "__main__":
    main()
