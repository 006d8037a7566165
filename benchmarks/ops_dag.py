"""Times the DAG op on random graphs and on batches of molecule-sized graphs, with an eager loop.

python benchmarks/ops_dag.py                              100 to 100,000 nodes, and 64 molecules
python benchmarks/ops_dag.py --nodes 100 --eager 100      with the eager loop, edge by edge

If options do not change it, J is 1. There are 4 heads and DK = DV = 16, as in the published graph
layers, and the type is float32. A random graph has 2.67 edges per node, as published (100 nodes,
267 edges). "eager" is a Python loop over the edges that makes small compiled calls for each edge,
forward and backward. It is our own code, but walks a graph as the published code does. "recurrent"
is the compiled scan over line-graph edges. Graphs are arguments of the programs and are padded to
their bucket of sizes, so that one program serves every graph of a bucket. The script checks this,
and for graphs of up to 1,000 nodes it also checks outputs and gradients.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import measure, write

from plstm_seq.graphs import LineGraph, bucket, line_graph, padded, sizes_of
from plstm_seq.ops import plstm_dag
from plstm_seq.ops.dag.inputs import Inputs

HEADS, DK, DV = 4, 16, 16
EDGES_A_NODE = 2.67


def random_graph(nodes: int, seed: int = 0, width: int | None = None) -> LineGraph:
    """Draw edges between random nodes, each pair once, from the lower to the higher number."""
    draws = np.random.default_rng(seed)
    count = round(EDGES_A_NODE * nodes)
    drawn = np.sort(draws.integers(0, nodes, (2 * count, 2)), axis=1)
    pairs, first = np.unique(drawn[drawn[:, 0] < drawn[:, 1]], axis=0, return_index=True)
    return line_graph(pairs[np.argsort(first)[:count]].T, nodes, width=width)


def molecules(count: int, seed: int = 0) -> LineGraph:
    """Draw trees of 12 to 28 nodes with three more edges each, which close rings."""
    draws = np.random.default_rng(seed)
    edges, of_node, offset = [], [], 0
    for i in range(count):
        nodes = int(draws.integers(12, 29))
        child = np.arange(1, nodes)
        parent = np.maximum(child - draws.integers(1, 4, child.size), 0)
        ring = draws.integers(0, nodes - 6, 3)
        pairs = np.concatenate([[parent, child], [ring, ring + 5]], axis=1)
        edges.append(np.unique(pairs, axis=1) + offset)
        of_node.append(np.full(nodes, i))
        offset += nodes
    return line_graph(np.concatenate(edges, axis=1), offset, graph=np.concatenate(of_node))


def make(graph: LineGraph, J: int, seed: int = 0) -> tuple[Inputs, jax.Array]:
    """Draw arguments with orthogonal transitions times 0.3, and a cotangent of the output."""
    draws = np.random.default_rng(seed)
    N, E, P = graph.graph.size, graph.tail.size, graph.before.size

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(draws.standard_normal((HEADS, *shape)), jnp.float32)

    orthogonal, _ = np.linalg.qr(draws.standard_normal((HEADS, P, J, J)))
    inputs = Inputs(
        query=draw(N, DK, 1),
        key=draw(N, DK, 1),
        value=draw(N, DV, J),
        source=draw(E, J, 1, J),
        transition=jnp.asarray(0.3 * orthogonal, jnp.float32),
        mark=draw(E, J, 1, J),
        direct=draw(N, J, 1, 1, J),
    )
    return inputs, draw(N, DV, J)


def compiled(implementation: str) -> Callable[[Inputs, LineGraph], jax.Array]:
    """Return a function that computes the op."""
    return lambda inputs, graph: plstm_dag(*inputs, graph=graph, implementation=implementation)


@jax.jit
def _written(source: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.einsum("hiaw,hka,hvw->hkvi", source, key, value)


@jax.jit
def _moved(state: jax.Array, transition: jax.Array, before: jax.Array) -> jax.Array:
    return state + jnp.einsum("hij,hkvj->hkvi", transition, before)


@jax.jit
def _read(output: jax.Array, mark: jax.Array, query: jax.Array, state: jax.Array) -> jax.Array:
    return output + jnp.einsum("hoqi,hkq,hkvi->hvo", mark, query, state)


@jax.jit
def _own(inputs: Inputs) -> jax.Array:
    direct, *nodes = inputs.direct, inputs.query, inputs.key, inputs.value
    return jnp.einsum("hnoqaw,hnkq,hnka,hnvw->nhvo", direct, *nodes)


def eager(inputs: Inputs, graph: LineGraph) -> jax.Array:
    """Run the recurrence edge by edge in topological order, with a separate call for every step."""
    lines: list[list[int]] = [[] for _ in range(graph.tail.size)]
    for line, after in enumerate(graph.after.tolist()):
        lines[after].append(line)
    q, k, v, source, transition, mark = (jnp.unstack(x, axis=1) for x in inputs[:6])
    outputs, states = list(jnp.unstack(_own(inputs))), {}
    for e in np.argsort(graph.level, kind="stable").tolist():
        tail, head = int(graph.tail[e]), int(graph.head[e])
        state = _written(source[e], k[tail], v[tail])
        for line in lines[e]:
            state = _moved(state, transition[line], states[int(graph.before[line])])
        states[e] = state
        outputs[head] = _read(outputs[head], mark[e], q[head], state)
    return jnp.stack(outputs, axis=1) * DK**-0.5


def backward(function: Callable) -> Callable:
    """Return a function that computes the outputs and the gradients of all inputs."""

    def both(inputs: Inputs, graph: LineGraph, cotangent: jax.Array) -> tuple:
        output, vjp = jax.vjp(lambda inputs: function(inputs, graph), inputs)
        return output, *vjp(cotangent)

    return both


def milliseconds(function: Callable, *arguments: Any) -> float:
    """Return the time of the faster of two runs, after a first run that is not counted."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times[1:])


def check(name: str, actual: Any, expected: Any) -> None:
    """Raise an error if outputs or gradients differ."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        error = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
        if not error < 1e-4:
            raise ArithmeticError(f"{name} differs from the recurrence by {error:.1e}")


def row(name: str, case: str, graph: LineGraph, J: int) -> dict[str, Any]:
    """Time one form on one graph."""
    real = sizes_of(graph)
    small = graph.graph.size <= 1_000
    graph = graph if name == "eager" else padded(graph, bucket(real))
    inputs, cotangent = make(graph, J)
    about = {"case": case, "J": J, "form": name, **real._asdict()}
    if small and name != "recurrent":
        function = eager if name == "eager" else compiled(name)
        actual = backward(function)(inputs, graph, cotangent)
        check(name, actual, jax.jit(backward(compiled("recurrent")))(inputs, graph, cotangent))
    if name == "eager":
        return about | {
            "forward_ms": milliseconds(eager, inputs, graph),
            "forward_backward_ms": milliseconds(backward(eager), inputs, graph, cotangent),
        }
    one = measure(compiled(name), inputs, graph)
    both = measure(backward(compiled(name)), inputs, graph, cotangent)
    return about | {
        "forward_ms": one.milliseconds,
        "forward_backward_ms": both.milliseconds,
        "forward_backward_temporary_mib": both.temporary_mib,
        "compile_s": both.compile_seconds,
    }


def programs(nodes: int, graphs: int = 8) -> dict[str, Any]:
    """Check that several random graphs with equally many nodes need one program per bucket."""
    traced: list[int] = []

    @jax.jit
    def function(inputs: Inputs, graph: LineGraph) -> jax.Array:
        traced.append(1)
        return plstm_dag(*inputs, graph=graph)

    buckets = set()
    for seed in range(graphs):
        graph = random_graph(nodes, seed)
        size = bucket(sizes_of(graph))
        buckets.add(size)
        function(make(padded(graph, size), 1)[0], padded(graph, size))
    if len(traced) != len(buckets):
        raise ArithmeticError(f"{len(traced)} programs for {len(buckets)} buckets")
    return {"nodes": nodes, "graphs": graphs, "programs": len(traced)}


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=(100, 1_000, 10_000, 100_000))
    parser.add_argument("--molecules", type=int, default=64, help="molecules in a batch, or 0")
    parser.add_argument("--J", type=int, default=1, help="the value of JT, JV and JO")
    parser.add_argument("--eager", type=int, default=100, help="most nodes for this form")
    parser.add_argument("--recurrent", type=int, default=100, help="most nodes for this form")
    parser.add_argument("--width", type=int, help="width of the blocks of the random graphs")
    parser.add_argument("--name", help="name of the results file")
    arguments = parser.parse_args()
    cases = {
        f"{nodes} nodes": random_graph(nodes, width=arguments.width) for nodes in arguments.nodes
    }
    if arguments.molecules:
        cases[f"{arguments.molecules} molecules"] = molecules(arguments.molecules)
    rows: list[dict[str, Any]] = []
    most = {"levelwise": np.inf, "recurrent": arguments.recurrent, "eager": arguments.eager}
    for case, graph in cases.items():
        for name in (name for name, count in most.items() if graph.graph.size <= count):
            jax.clear_caches()
            rows.append(row(name, case, graph, arguments.J))
            print(
                f"{case:14} {name:10} {rows[-1]['lines']:8} lines: "
                f"forward {rows[-1]['forward_ms']:9.2f} ms, "
                f"with backward {rows[-1]['forward_backward_ms']:9.2f} ms",
                flush=True,
            )
    compiled_for = [programs(nodes) for nodes in arguments.nodes if nodes <= 1_000]
    name = arguments.name or f"ops_dag_{jax.default_backend()}"
    sizes = {"heads": HEADS, "DK": DK, "DV": DV, "dtype": "float32", "programs": compiled_for}
    print(write(name, rows, **sizes))


if __name__ == "__main__":
    main()
