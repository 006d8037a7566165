"""The public function of the DAG op, and the choice of how it is computed."""

from typing import Any

from jax import Array

from plstm_seq import notation as n
from plstm_seq.ops.arguments import accumulation_dtype, as_jax
from plstm_seq.ops.choice import Candidate, by_rank, choose, compute, table
from plstm_seq.ops.dag.inputs import Graph, Inputs, check
from plstm_seq.ops.dag.levelwise import LEVELWISE
from plstm_seq.ops.dag.recurrent import RECURRENT

IMPLEMENTATIONS = table(LEVELWISE, RECURRENT)


def plstm_dag(
    query: n.NodeQuery,
    key: n.NodeKey,
    value: n.NodeValue,
    source: n.EdgeSource,
    transition: n.LineTransition,
    mark: n.EdgeMark,
    direct: n.NodeDirect | None = None,
    *,
    graph: Graph,
    scale: float | Array | None = None,
    implementation: str | None = None,
) -> n.NodeOutput:
    r"""The pLSTM of a directed acyclic graph: a state runs along every edge.

    For every edge e from u to v, and every node v, with `.` the contraction over the letters two
    gates share,

        C(e)   = source(e) . key(u) . value(u) + sum over lines (d, e) of transition(d, e) . C(d)
        out(v) = scale * (sum over edges e into v of mark(e) . query(v) . C(e)
                          + direct(v) . query(v) . key(v) . value(v))

    A line is an edge (d, e) of the line graph: d enters the node that e leaves. P-mode keeps all
    lines; D-mode keeps the lines of a multitree, so that at most one way joins two edges. Source:
    arXiv 2506.11997, section 3. Transitions may be singular: nothing is ever inverted. On a path
    this is `plstm_1d`, on a grid `plstm_2d`.

    Args:
        query: [*B, N, DK, JQ].
        key: [*B, N, DK, JK].
        value: [*B, N, DV, JV].
        source: [*B, E, JT, JK, JV], in the order of the graph's edges.
        transition: [*B, P, JT, JT], in the order of the graph's lines, acting from the left on the
            JT axis of the state; JT = 1 is a scalar.
        mark: [*B, E, JO, JQ, JT].
        direct: [*B, N, JO, JQ, JK, JV], the term that joins a node to itself; None: no such term.
        graph: index arrays, a `plstm_seq.graphs.LineGraph`. Without edges (E = 0) or lines (P = 0)
            the sums are empty.
        scale: factor of the output; None: `DK ** -0.5`.
        implementation: a key of `IMPLEMENTATIONS`; this implementation runs or raises an error.
            None: the first one that supports the call.

    Returns:
        The output [*B, N, DV, JO] in the type of `value`; sums are accumulated in float64 if an
        input is float64, else in float32.

    Raises:
        TypeError: an argument is not a floating-point array, or an index array does not hold
            integers.
        ValueError: a shape or the implementation's name is wrong.
        NotImplementedError: the named implementation does not support the call.
        ExceptionGroup: no implementation was named and all declined; it holds every reason.

    Example:
        Count the ways from node 0 to every node of a graph that splits and joins again.

        >>> import jax.numpy as jnp
        >>> from plstm_seq.graphs import line_graph
        >>> from plstm_seq.ops import plstm_dag
        >>> graph = line_graph([[0, 0, 1, 2, 3], [1, 2, 3, 3, 4]], nodes=5)
        >>> one = jnp.ones((5, 1, 1))
        >>> source = jnp.zeros((5, 1, 1, 1)).at[jnp.array([0, 1])].set(1)  # of the first two edges
        >>> transition = jnp.ones((len(graph.before), 1, 1))
        >>> mark = jnp.ones((5, 1, 1, 1))
        >>> y = plstm_dag(one, one, one, source, transition, mark, graph=graph)
        >>> y.ravel().astype(int).tolist()
        [0, 1, 1, 2, 2]
    """
    inputs = Inputs(query, key, value, source, transition, mark, direct)
    indices = check(inputs, graph)
    forms = choose(IMPLEMENTATIONS, implementation)
    inputs = as_jax(inputs)
    options = {"graph": indices, "dtype": accumulation_dtype(*inputs)}

    def candidates(device: Any) -> list[Candidate]:
        return [Candidate(form, options) for form in by_rank(forms, inputs, device)]

    named = implementation is not None
    return compute("plstm_dag", candidates, inputs, scale=scale, named=named)[0]
