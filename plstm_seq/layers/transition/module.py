"""The transition layer: projects the input and hands the result to a parametrisation."""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.checks import require_divisible, require_positive, require_shape
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.hyperparameter import Hyperparameter, add_hyperparameters
from plstm_seq.layers.precision import accumulation_dtype
from plstm_seq.layers.sub_heads import sub_head_linear
from plstm_seq.layers.transition.parametrization import Parametrization


class Transition(Configured[Parametrization]):
    """Map input vectors [..., I] to transition matrices [..., H, JT, JT].

    The parameters are `NAME_bias` [H, *shape] and, if transitions depend on the input,
    `NAME_weight` [H / S, S, *shape, I / S] (S = `config.sub_heads`, head `h S + s` reads block
    `s`), for every name in `config.quantities()`. The numbers that `config.leaf_fields` names are
    arrays [] of the same names, no parameters but leaves of the state.

    Args:
        num_heads: the number of heads, H.
        input_dim: the number of input features, I.
        config: the parametrisation, one of `TransitionConfig`.
        dtype: the type that the input is projected in; None: that of input and parameters.
        param_dtype: the type of the parameters.
        rngs: for the parameters.

    Raises:
        ValueError: `sub_heads` divides not both H and I, or `config` does not suit H.
        TypeError: `config` is no such parametrisation; a `Table` is looked up by token.

    Example:
        Rotations of three dimensions, one for every input and head.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Transition
        >>> from plstm_seq.layers.transition import Orthogonal
        >>> transition = Transition(2, 8, Orthogonal(dim=3), rngs=nnx.Rngs(0))
        >>> matrix = transition(jnp.ones((5, 8)))
        >>> matrix.shape, bool(jnp.allclose(matrix @ matrix.mT, jnp.eye(3), atol=1e-5))
        ((5, 2, 3, 3), True)
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        config: Parametrization,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not isinstance(config, Parametrization):
            raise TypeError(
                f"transition: got {type(config).__name__}, expected a family whose matrices are "
                "made from the input"
            )
        require_positive(num_heads=num_heads, input_dim=input_dim)
        require_divisible("num_heads", num_heads, "sub_heads", config.sub_heads)
        require_divisible("input_dim", input_dim, "sub_heads", config.sub_heads)
        config.check_heads(num_heads)
        self.num_heads, self.input_dim = num_heads, input_dim
        self.kept, self.dtype = Kept(config), dtype
        add_hyperparameters(self, config, param_dtype)
        blocks = config.sub_heads
        for name, quantity in config.quantities().items():
            shape = (num_heads, *quantity.shape)
            bias = quantity.bias_init(rngs.params(), shape, param_dtype)
            setattr(self, f"{name}_bias", nnx.Param(bias))
            if config.weight:
                shape = (num_heads // blocks, blocks, *quantity.shape, input_dim // blocks)
                weight = quantity.weight_init(rngs.params(), shape, param_dtype)
                setattr(self, f"{name}_weight", nnx.Param(weight))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "*S H JT JT"]:
        """Compute the transition of every input vector.

        Args:
            x: [..., I].

        Returns:
            [..., H, JT, JT], in float32 at least: rounded to bfloat16 an orthogonal matrix would
            be half a percent away from orthogonal, at every step.

        Raises:
            ValueError: the last axis of `x` is not I.
        """
        quantities = self.quantities(x)
        # Without weights the matrices are made once, and only then repeated for every input.
        matrix = self.matrices(quantities, self.num_heads)
        if not quantities:  # a constant, which knows no type
            matrix = matrix.astype(accumulation_dtype(self.dtype or x.dtype))
        dim = self.config.dim
        return jnp.broadcast_to(matrix, (*x.shape[:-1], self.num_heads, dim, dim))

    def quantities(self, x: Float[Array, "*S I"]) -> dict[str, Float[Array, "..."]]:
        """Compute the linear functions of every input vector, by name.

        Args:
            x: [..., I].

        Returns:
            [..., H, *shape], in float32 at least; without weights [H, *shape], the biases.
        """
        require_shape("x", x, ("...", self.input_dim))
        return {name: self._project(name, x) for name in self.config.quantities()}

    def matrices(
        self, quantities: dict[str, Float[Array, "..."]], num_heads: int
    ) -> Float[Array, "*S H JT JT"]:
        """Make matrices of quantities [..., H, *shape]; see `Parametrization.matrix`."""
        return self._with_leaves(quantities).matrix(quantities, num_heads)

    def _with_leaves(self, quantities: dict[str, Array]) -> Parametrization:
        """The config with the numbers of the state, in the type of the quantities."""
        if not self.config.leaf_fields or not quantities:
            return self.config
        dtype = jnp.result_type(*quantities.values())
        leaves: dict[str, Hyperparameter] = {
            name: getattr(self, name) for name in self.config.leaf_fields
        }
        return self.config.with_leaves(
            {name: leaf.constant(dtype) for name, leaf in leaves.items()}
        )

    def _project(self, name: str, x: Array) -> Array:
        bias = getattr(self, f"{name}_bias")[...]
        weight = getattr(self, f"{name}_weight")[...] if self.config.weight else None
        return sub_head_linear(x, weight, bias, dtype=self.dtype)
