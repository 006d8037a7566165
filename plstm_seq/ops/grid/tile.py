"""A tile of a grid as one linear map, and its products with queries, keys, values and states.

README.md, section 4, derives it. The functions take one tile, without *B. The states at two edges
are one array here, [DK, edge, DV]: first the `Y * JT` entries of the left (right) border, then the
`X * JT` entries of the top (bottom) border.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plstm_seq.ops.grid.columns import Columns, columns, join
from plstm_seq.ops.grid.inputs import Inputs
from plstm_seq.ops.products import einsum


class Strip(NamedTuple):
    """The gates of a strip of columns: from products of keys and values to what its columns give.

    For products of the columns before the strip, the gates are `mark . source`, which is computed
    only when it is needed; for products of the strip's own columns they are `own`.

    mark: [columns, gives, border];
    source: [border, columns before, given], None where the strip is the first;
    own: [columns, gives, columns, given].
    """

    mark: Array
    source: Array | None
    own: Array

    def part(self, gives: slice, given: slice) -> "Strip":
        """Returns the strip for a part of `gives` and of `given`."""
        source = None if self.source is None else self.source[:, :, given]
        return Strip(self.mark[:, gives], source, self.own[:, gives, :, given])

    def gates(self) -> Array:
        """Returns the gates [columns, gives, columns up to the strip's last, given]."""
        if self.source is None:
            return self.own
        before = einsum("lab,bcd->lacd", self.mark, self.source)
        return jnp.concatenate([before, self.own], axis=2)


class Tile(NamedTuple):
    """The gates of a tile.

    strips: the gates between cells, with gives = Y * JO * JQ and given = Y * JK * JV;
    read: the gates from the states that enter, [X * Y, JO, JQ, edge];
    write: the gates to the states that leave, [edge, X * Y, JK, JV];
    move: the gates from states that enter to states that leave, [edge, edge].
    """

    strips: tuple[Strip, ...]
    read: Array
    write: Array
    move: Array


class _Chain(NamedTuple):
    """The columns of a tile as strips, and the parts of all columns as one block of `Columns`.

    mark [X, gives, border]; source [border, X, given]; transition [border, border].
    """

    strips: tuple[Strip, ...]
    mark: Array
    source: Array
    transition: Array

    def gates(self, gives: slice, given: slice) -> Array:
        """Returns the gates of all strips, [X, gives, X, given]."""
        X = self.mark.shape[0]
        parts = (strip.part(gives, given).gates() for strip in self.strips)
        return jnp.concatenate(
            [jnp.pad(x, ((0, 0), (0, 0), (0, X - x.shape[2]), (0, 0))) for x in parts]
        )


def make_strips(inputs: Inputs) -> tuple[Strip, ...]:
    """Returns the gates between the cells [X, Y, ...] of a grid that no states enter or leave."""
    return _without_edges(inputs).strips


def make_gates(inputs: Inputs) -> Array:
    """Returns the gates of `make_strips` as one array, [X, Y * JO * JQ, X, Y * JK * JV]."""
    return _without_edges(inputs).gates(slice(None), slice(None))


def _without_edges(inputs: Inputs) -> _Chain:
    X, Y, JO, JQ, _ = inputs.mark_left.shape
    JK, JV = inputs.source_right.shape[-2:]
    return _chain(join(columns(inputs, ends=False)), X, Y * JO * JQ, Y * JK * JV)


def make_tile(inputs: Inputs) -> Tile:
    """Returns the gates of a tile, given those of its cells, [X, Y, ...]."""
    X, Y, JO, JQ, JT = inputs.mark_left.shape
    JK, JV = inputs.source_right.shape[-2:]
    gives, given = Y * JO * JQ, Y * JK * JV
    chain = _chain(join(columns(inputs, ends=True)), X, gives + JT, given + JT)
    gives, bottom = slice(gives), slice(gives, None)
    given, top = slice(given), slice(given, None)
    from_top = chain.gates(gives, top).reshape(X, -1, X * JT)
    read = jnp.concatenate([chain.mark[:, gives], from_top], axis=2)
    to_bottom = chain.gates(bottom, given).reshape(X * JT, X, -1)
    write = jnp.concatenate([chain.source[:, :, given], to_bottom])
    from_top = chain.source[:, :, top].reshape(-1, X * JT)
    from_left = chain.mark[:, bottom].reshape(X * JT, -1)
    through = chain.gates(bottom, top).reshape(X * JT, X * JT)
    right = jnp.concatenate([chain.transition, from_top], axis=1)
    down = jnp.concatenate([from_left, through], axis=1)
    return Tile(
        tuple(strip.part(gives, given) for strip in chain.strips),
        read.reshape(X * Y, JO, JQ, -1),
        write.reshape(-1, X * Y, JK, JV),
        jnp.concatenate([right, down]),
    )


def _chain(blocks: Columns, X: int, gives: int, given: int) -> _Chain:
    """Walks over the strips from left to right, and carries the source and transition so far."""
    border = blocks.transition.shape[1]
    width = blocks.mark.shape[1] // gives
    found, marks = [], []
    source, transition = None, None
    # A split, not slices: the gradients of its parts are joined, while those of slices are added.
    parts = [jnp.split(array, array.shape[0]) for array in blocks]
    for i, (mark, added, through, own) in enumerate(zip(*parts, strict=True)):
        columns = min(width, X - i * width)
        mark = mark.reshape(width, gives, border)[:columns]
        added = added.reshape(border, width, given)[:, :columns]
        own = own.reshape(width, gives, width, given)[:columns, :, :columns]
        found.append(Strip(mark, source, own))
        if source is None or transition is None:
            marks.append(mark)
            source, transition = added, through[0]
        else:
            marks.append(einsum("lab,bc->lac", mark, transition))
            source = jnp.concatenate([einsum("ab,bcd->acd", through[0], source), added], axis=1)
            transition = einsum("ab,bc->ac", through[0], transition)
    if source is None or transition is None:
        raise ValueError("a tile has at least one column")
    return _Chain(tuple(found), jnp.concatenate(marks), source, transition)


def inside(query: Array, key: Array, value: Array, strips: tuple[Strip, ...]) -> Array:
    """Returns what the cells of a tile read from each other: scores times gates, times values.

    The backward pass computes the gates of each strip again.

    Args:
        query: [X * Y, DK, JQ].
        key: [X * Y, DK, JK].
        value: [X * Y, DV, JV].
        strips: the gates.

    Returns:
        [X * Y, DV, JO].
    """
    columns = sum(strip.own.shape[0] for strip in strips)
    outputs, begin = [], 0
    for strip in strips:
        end = begin + strip.own.shape[0] * query.shape[0] // columns
        outputs.append(_inside_strip(query[begin:end], key[:end], value[:end], strip))
        begin = end
    return jnp.concatenate(outputs)


@jax.checkpoint
def _inside_strip(query: Array, key: Array, value: Array, strip: Strip) -> Array:
    return gated(query, key, value, strip.gates())


def gated(
    query: Array,
    key: Array,
    value: Array,
    gates: Array,
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
) -> Array:
    """Returns the scores of some cells with others, times gates, times values.

    Args:
        query: [to, DK, JQ].
        key: [from, DK, JK].
        value: [from, DV, JV].
        gates: [to, JO, JQ, from, JK, JV]; neighbouring axes may be merged in any way.
        precision: the precision of the two products.

    Returns:
        [to, DV, JO].
    """
    JQ, JK, JV = query.shape[-1], key.shape[-1], value.shape[-1]
    gates = gates.reshape(query.shape[0], -1, JQ, key.shape[0], JK, JV)
    scores = jnp.einsum("lkq,cka->lqca", query, key, precision=precision)
    matrix = (gates * scores[:, None, :, :, :, None]).sum((2, 4))
    return jnp.einsum("locw,cvw->lvo", matrix, value, precision=precision)


def reading(query: Array, read: Array, state: Array) -> Array:
    """Returns what cells read from the states that enter, [DK, edge, DV] -> [X * Y, DV, JO]."""
    queried = einsum("lkq,kev->lqev", query, state)
    return (read[..., None] * queried[:, None]).sum((2, 3)).mT


def writing(key: Array, value: Array, write: Array) -> Array:
    """Returns what the cells add to the states that leave, [DK, edge, DV]."""
    values = (write[:, :, :, None] * value[:, None]).sum(-1)
    return einsum("lka,elav->kev", key, values)


def moving(move: Array, state: Array) -> Array:
    """Returns what the states that enter add to the states that leave, [DK, edge, DV]."""
    return einsum("ef,kfv->kev", move, state)


def to_border(state: Array) -> Array:
    """Rearranges [cells, DK, DV, JT] to [DK, cells * JT, DV]."""
    cells, DK, DV, JT = state.shape
    return state.transpose(1, 0, 3, 2).reshape(DK, cells * JT, DV)


def from_border(border: Array, JT: int) -> Array:
    """Inverts `to_border`."""
    DK, _, DV = border.shape
    return border.reshape(DK, -1, JT, DV).transpose(1, 0, 3, 2)
