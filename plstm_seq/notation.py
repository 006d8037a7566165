"""The letters of this project: one table, used in code, docstrings, plots and errors.

| letter | meaning |
| --- | --- |
| `*B` | any number of leading batch axes (batch and heads are both "batch" for an op) |
| `T` | time steps; `L` chunk length; `X, Y` grid; `N` nodes, `E` edges, `P` line-graph edges |
| `H` | heads |
| `DK, DV` | key/query and value features per head |
| `JT` | transition dimension: a transition is a `JT x JT` matrix |
| `JK, JV` | source dimensions: source `[JT, JK, JV]`, key `[DK, JK]`, value `[DV, JV]` |
| `JO, JQ` | mark dimensions: mark `[JO, JQ, JT]`, query `[DK, JQ]`, output `[DV, JO]` |
| direct | `[JO, JQ, JK, JV]`, the term that joins a node to itself |
| state `C` | `[DK, DV, JT]` |

In einsum strings the letters are: k = DK, v = DV, i and j = JT, a = JK, w = JV, q = JQ, o = JO.
"""

from jax import Array
from jaxtyping import Float

Query = Float[Array, "*B T DK JQ"]
Key = Float[Array, "*B T DK JK"]
Value = Float[Array, "*B T DV JV"]
Source = Float[Array, "*B T JT JK JV"]
Transition = Float[Array, "*B T JT JT"]
Mark = Float[Array, "*B T JO JQ JT"]
Direct = Float[Array, "*B T JO JQ JK JV"]
State = Float[Array, "*B DK DV JT"]
Output = Float[Array, "*B T DV JO"]
GridQuery = Float[Array, "*B X Y DK JQ"]
GridKey = Float[Array, "*B X Y DK JK"]
GridValue = Float[Array, "*B X Y DV JV"]
GridSource = Float[Array, "*B X Y JT JK JV"]
GridTransition = Float[Array, "*B X Y JT JT"]
GridMark = Float[Array, "*B X Y JO JQ JT"]
GridDirect = Float[Array, "*B X Y JO JQ JK JV"]
GridOutput = Float[Array, "*B X Y DV JO"]
OrientedSource = Float[Array, "*B O X Y JT JK JV"]
OrientedTransition = Float[Array, "*B O X Y JT JT"]
OrientedMark = Float[Array, "*B O X Y JO JQ JT"]
LeftState = Float[Array, "*B Y DK DV JT"]
TopState = Float[Array, "*B X DK DV JT"]
NodeQuery = Float[Array, "*B N DK JQ"]
NodeKey = Float[Array, "*B N DK JK"]
NodeValue = Float[Array, "*B N DV JV"]
EdgeSource = Float[Array, "*B E JT JK JV"]
LineTransition = Float[Array, "*B P JT JT"]
EdgeMark = Float[Array, "*B E JO JQ JT"]
NodeDirect = Float[Array, "*B N JO JQ JK JV"]
NodeOutput = Float[Array, "*B N DV JO"]
