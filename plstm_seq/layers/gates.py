"""Source, mark and direct: three gates of one kind, which differ in their axes."""

from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from plstm_seq.layers.activations import ActivationName, activation
from plstm_seq.layers.arguments import (
    require_above_zero,
    require_choice,
    require_divisible,
    require_positive,
    require_shape,
)
from plstm_seq.layers.configured import Configured, Kept
from plstm_seq.layers.initializers import Constant, Initializer, Zeros
from plstm_seq.layers.sub_heads import sub_head_linear


@dataclass(frozen=True)
class GateConfig:
    """How a gate is computed: `activation(bias + weight . x)`.

    Attributes:
        weight: whether the gate depends on the input; if not, it is the bias alone.
        sub_heads: the number of blocks that the input is split into; head `h` reads only block
            `h % sub_heads`.
        activation: the name of an activation, see `plstm_seq.layers.activations`.
        activation_scale: the scale of the activation; 1 for activations without a scale.
        bias_init: the initialiser of the bias [H, ...].
        weight_init: the initialiser of the weight
            [H / sub_heads, sub_heads, ..., I / sub_heads].
    """

    weight: bool = False
    sub_heads: int = 1
    activation: ActivationName = "logsigmoid"
    activation_scale: float = 1.0
    bias_init: Initializer = field(default_factory=lambda: Constant(-5.0))
    weight_init: Initializer = field(default_factory=Zeros)

    def __post_init__(self):
        require_positive(sub_heads=self.sub_heads)
        require_choice("activation", self.activation, ActivationName)
        require_above_zero(activation_scale=self.activation_scale)
        if self.activation in ("identity", "sigmoid") and self.activation_scale != 1:
            raise ValueError(
                f"activation_scale: got {self.activation_scale}, expected 1.0: the activation "
                f"{self.activation!r} has no scale"
            )


class Gate(Configured[GateConfig]):
    """A gate with the axes of a source [JT, JK, JV], mark [JO, JQ, JT] or direct [JO, JQ, JK, JV].

    Args:
        num_heads: the number of heads, H.
        input_dim: the number of features of the input, I.
        shape: the axes of the gate.
        config: see `GateConfig`.
        dtype: the type to compute in; None: the common type of input and parameters. Sums and the
            activation are in float32 at least, and so is the gate.
        param_dtype: the type of the parameters.
        rngs: the random number generators for the parameters.

    Example:
        A source with JT = 3 and JK = JV = 1 for two heads.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from plstm_seq.layers import Gate, GateConfig
        >>> source = Gate(2, 8, (3, 1, 1), GateConfig(), rngs=nnx.Rngs(0))
        >>> source(jnp.ones((5, 8))).shape
        (5, 2, 3, 1, 1)
    """

    def __init__(
        self,
        num_heads: int,
        input_dim: int,
        shape: tuple[int, ...],
        config: GateConfig,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        require_positive(num_heads=num_heads, input_dim=input_dim)
        sub_heads = config.sub_heads
        self.num_heads, self.input_dim, self.shape = num_heads, input_dim, shape
        self.kept, self.dtype = Kept(config), dtype
        self.bias = nnx.Param(config.bias_init(rngs.params(), (num_heads, *shape), param_dtype))
        if config.weight:
            require_divisible("num_heads", num_heads, "sub_heads", sub_heads)
            require_divisible("input_dim", input_dim, "sub_heads", sub_heads)
            weight_shape = (num_heads // sub_heads, sub_heads, *shape, input_dim // sub_heads)
            self.weight = nnx.Param(config.weight_init(rngs.params(), weight_shape, param_dtype))

    def __call__(self, x: Float[Array, "*S I"]) -> Float[Array, "..."]:
        """Compute the gate of every input vector.

        Args:
            x: [..., I].

        Returns:
            The gate [..., H, *shape], in float32 at least. If it depends on the bias alone, the
            same gate is broadcast to every input vector.

        Raises:
            ValueError: the last axis of `x` is not I.
        """
        require_shape("x", x, ("...", self.input_dim))
        weight = self.weight[...] if self.config.weight else None
        linear = sub_head_linear(x, weight, self.bias[...], dtype=self.dtype)
        gate = activation(self.config.activation, self.config.activation_scale)(linear)
        # Without a weight the gate is computed once, and then repeated for every input.
        return jnp.broadcast_to(gate, (*x.shape[:-1], self.num_heads, *self.shape))
