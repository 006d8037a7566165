"""The 2D pLSTM layer: projections and gates around one op, in all orientations at once."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.gates import Gate
from plstm_seq.layers.grid.config import Mode, PLSTM2DConfig
from plstm_seq.layers.grid.convolution import GridConvolution
from plstm_seq.layers.grid.gates import d_gates, make_gates, p_gates
from plstm_seq.layers.projections import head_projections, out_projection, output_features
from plstm_seq.layers.scale import Scale
from plstm_seq.ops import plstm_2d, plstm_2d_oriented
from plstm_seq.ops.grid.inputs import GATES, Inputs, flip

_DEFAULT = PLSTM2DConfig()


class PLSTM2DLayer(Configured[PLSTM2DConfig]):
    """A 2D pLSTM layer (arXiv 2506.11997, section 4).

    Gates, query, key and value are made from the input, or from a convolution of it; the op of
    `plstm_seq.ops.plstm_2d` runs on each head from several corners of the grid; its output is
    normalised per head and projected: `y = outprojection(norm(op(...)))`, and the input passes by
    through a learned factor a feature where `passthrough` says so.

    In P-mode ("directed propagation") a gate shares what leaves a cell between its two edges, and
    a signal fades along its direction with the root of the distance; in D-mode ("diffusive
    distribution") one way alone joins two cells, and a signal reaches every cell unfaded.

    X is the first axis of the grid (an image's rows, downwards), Y the second.

    Args:
        input_dim: I, the features of the input.
        config: see `PLSTM2DConfig`.
        mode: "P" or "D".
        output_dim: the features of the output; None: I, or without an out projection those of the
            op, H * DV * JO.
        dtype: the type to compute in; None: that of input and parameters. Gates, transitions and
            the op's sums are in float32 at least.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: sizes do not fit each other, or the mode is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers.grid import PLSTM2DConfig, PLSTM2DLayer
        >>> layer = PLSTM2DLayer(16, PLSTM2DConfig(num_heads=2), mode="D", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((3, 4, 5, 16))).shape
        (3, 4, 5, 16)
    """

    def __init__(
        self,
        input_dim: int,
        config: PLSTM2DConfig = _DEFAULT,
        *,
        mode: Mode = "P",
        output_dim: int | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if mode not in get_args(Mode):
            raise ValueError(f"mode: got {mode!r}, expected one of {get_args(Mode)}")
        sizes = config.sizes(input_dim)
        self.input_dim, self.kept, self.sizes = input_dim, Kept(config), sizes
        self.mode: Mode = mode
        self.output_dim = output_features(
            input_dim,
            output_dim,
            sizes,
            outprojection=config.outprojection,
            passthrough=config.passthrough,
        )
        self.dtype, self.param_dtype = dtype, param_dtype
        types: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        gates = make_gates(mode, input_dim, config, **types)
        self.gate_names = tuple(gates)
        for name, gate in gates.items():
            setattr(self, name, gate)
        direct = (sizes.JO, sizes.JQ, sizes.JK, sizes.JV)
        self.direct = (
            None
            if config.direct is None
            else Gate(sizes.H, input_dim, direct, config.direct, **types)
        )
        self._make_projections(**types)

    def _make_projections(self, **types: Any) -> None:
        config, sizes, input_dim = self.config, self.sizes, self.input_dim
        projections = head_projections(input_dim, sizes, config, **types)
        self.query, self.key, self.value = projections
        self.convolution = (
            None
            if config.convolution is None
            else GridConvolution(input_dim, config.convolution, **types)
        )
        norm_and_map = out_projection(sizes, self.output_dim, config, **types)
        self.mhnorm, self.outprojection = norm_and_map
        self.passthrough = Scale(input_dim, **types) if config.passthrough else None

    def __call__(self, x: Float[Array, "B X Y I"]) -> Float[Array, "B X Y F"]:
        """Run over a grid.

        Args:
            x: [B, X, Y, I].

        Returns:
            [B, X, Y, output_dim].

        Raises:
            ValueError: the shape of `x` does not fit.
        """
        x, convolved = self._enter(x)
        inputs = self._op_inputs(x, convolved)
        y = self._each(inputs) if self.config.norm_of == "orientation" else self._summed(inputs)
        if self.outprojection is not None:
            y = self.outprojection(y)
        if self.passthrough is not None:
            y = y + self.passthrough(
                convolved if "passthrough" in self.config.convolution_inputs else x
            )
        return y

    def op_inputs(self, x: Float[Array, "B X Y I"]) -> Inputs:
        """Make what the op runs on: gates, query, key and value at every cell.

        Args:
            x: [B, X, Y, I].

        Returns:
            The arguments of `plstm_2d_oriented`: query, key, value and direct [B, H, X, Y, ...],
            the other gates [B, H, O, X, Y, ...], each at its cell whatever the orientation.

        Raises:
            ValueError: the shape of `x` does not fit.
        """
        return self._op_inputs(*self._enter(x))

    def gates(self, x: Float[Array, "B X Y I"]) -> dict[str, Array]:
        """Compute the gates by name, before P-mode shares source and transition out.

        Args:
            x: [B, X, Y, I].

        Returns:
            Of each name [B, H, O, X, Y, ...], at its cell whatever the orientation: in P-mode
            `orientation`, `source`, `transition` and `mark`; in D-mode `source_right`,
            `source_down`, `transition_right`, `transition_down`, `transition_turn`, `mark_left`
            and `mark_up`. And `direct`, where there is one, [B, H, X, Y, ...].

        Raises:
            ValueError: the shape of `x` does not fit.
        """
        inputs = self._enter(x)
        gates = {name: self._by_orientation(self._made(name, *inputs)) for name in self.gate_names}
        if self.direct is not None:
            gates["direct"] = _heads_first(self._made("direct", *inputs))
        return gates

    def _enter(self, x: Array) -> tuple[Array, Array]:
        """The input in the type computed in, and its convolution."""
        require_shape("x", x, ("B", "X", "Y", self.input_dim))
        if self.dtype is None:
            x = x.astype(jnp.result_type(x.dtype, self.param_dtype))
        else:
            x = x.astype(self.dtype)
        return x, x if self.convolution is None else self.convolution(x)

    def _made(self, name: str, x: Array, convolved: Array, branch: str | None = None) -> Array:
        """The gate or projection of a name, which is or begins with that of its branch."""
        branch = name.partition("_")[0] if branch is None else branch
        chosen = self.config.convolution_inputs
        return getattr(self, name)(convolved if branch in chosen else x)

    def _op_inputs(self, x: Array, convolved: Array) -> Inputs:
        def make(name: str, branch: str | None = None) -> Array:
            return self._made(name, x, convolved, branch)

        if self.mode == "P":
            gates = p_gates(make, self.config.p_form)
        else:
            gates = d_gates(make, self.config.chirality)
        key = make("query", "key") if self.key is None else make("key")
        return Inputs(
            query=_heads_first(make("query")),
            key=_heads_first(key),
            value=_heads_first(make("value")),
            direct=None if self.direct is None else _heads_first(make("direct")),
            **jax.tree.map(self._by_orientation, gates)._asdict(),
        )

    def _by_orientation(self, gates: Array) -> Array:
        """[B, X, Y, N, ...] -> [B, H, O, X, Y, ...]."""
        heads, count = self.sizes.H, len(self.config.orientations)
        orientation_first = self.config.gate_order == "orientation"
        outer = (count, heads) if orientation_first else (heads, count)
        gates = gates.reshape(*gates.shape[:3], *outer, *gates.shape[4:])
        return jnp.moveaxis(gates, (4, 3) if orientation_first else (3, 4), (1, 2))

    def _summed(self, inputs: Inputs) -> Array:
        """The sum over orientations, normalised: [B, X, Y, H * DV * JO]."""
        config = self.config
        y = plstm_2d_oriented(
            *inputs, orientations=config.orientations, implementation=config.implementation
        )
        return self._normed(jnp.moveaxis(y, 1, 3))

    def _each(self, inputs: Inputs) -> Array:
        """The mean over orientations, each normalised, direct term included."""
        orientations = self.config.orientations
        vectors = {
            name: jnp.broadcast_to(
                array[:, :, None], (*array.shape[:2], len(orientations), *array.shape[2:])
            )
            for name, array in inputs._asdict().items()
            if name not in GATES and array is not None
        }
        flipped = jax.tree.map(lambda x: flip(x, orientations, 2), inputs._replace(**vectors))
        y: Any = plstm_2d(*flipped, implementation=self.config.implementation)
        y = flip(y, orientations, 2)
        return jnp.mean(self._normed(jnp.moveaxis(y, 1, 4)), axis=1)

    def _normed(self, y: Array) -> Array:
        """Norm over each head and heads as features: [..., H, DV, JO] -> [..., H * DV * JO]."""
        y = jax.lax.collapse(y, y.ndim - 2)
        if self.mhnorm is not None:
            y = self.mhnorm(y)
        return jax.lax.collapse(y, y.ndim - 2)


def _heads_first(array: Array) -> Array:
    """[B, X, Y, H, ...] -> [B, H, X, Y, ...]."""
    return jnp.moveaxis(array, 3, 1)
