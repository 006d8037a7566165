"""What pLSTM layers have before and behind their op: query, key, value; norm, out projection."""

from functools import partial
from typing import Any, Protocol

from flax import nnx

from plstm_seq.layers.checks import require_positive
from plstm_seq.layers.head_projection import HeadProjection, HeadProjectionConfig
from plstm_seq.layers.initializers import Initializer
from plstm_seq.layers.norm import Norm, NormConfig
from plstm_seq.layers.sizes import Sizes


class ProjectionsConfig(Protocol):
    """The fields of a layer's config that are read here."""

    @property
    def query(self) -> HeadProjectionConfig: ...  # noqa: D102
    @property
    def key(self) -> HeadProjectionConfig: ...  # noqa: D102
    @property
    def value(self) -> HeadProjectionConfig: ...  # noqa: D102
    @property
    def sub_heads(self) -> int | None: ...  # noqa: D102
    @property
    def tie_query_key(self) -> bool: ...  # noqa: D102
    @property
    def norm(self) -> NormConfig | None: ...  # noqa: D102
    @property
    def outprojection(self) -> bool: ...  # noqa: D102
    @property
    def outprojection_bias(self) -> bool: ...  # noqa: D102
    @property
    def outprojection_weight_init(self) -> Initializer: ...  # noqa: D102
    @property
    def outprojection_bias_init(self) -> Initializer: ...  # noqa: D102


def head_projections(
    input_dim: int, sizes: Sizes, config: ProjectionsConfig, **types: Any
) -> tuple[HeadProjection, HeadProjection | None, HeadProjection]:
    """Make the projections to query, key (None: the query's) and value.

    Args:
        input_dim: the number of input features, I.
        sizes: of the layer.
        config: of the layer; `sub_heads` None: H.
        types: `dtype`, `param_dtype` and `rngs`.
    """
    sub_heads = sizes.H if config.sub_heads is None else config.sub_heads
    project = partial(HeadProjection, sizes.H, input_dim, sub_heads=sub_heads, **types)
    return (
        project(sizes.DK, sizes.JQ, config.query),
        None if config.tie_query_key else project(sizes.DK, sizes.JK, config.key),
        project(sizes.DV, sizes.JV, config.value),
    )


def out_projection(
    sizes: Sizes, output_dim: int, config: ProjectionsConfig, **types: Any
) -> tuple[Norm | None, nnx.Linear | None]:
    """Make the norm over each head's output and the map of all heads [H * DV * JO] to the output.

    Either is None where the config has none; arguments as those of `head_projections`.
    """
    norm, project = None, None
    if config.norm is not None:
        norm = Norm(sizes.output, config.norm, num_heads=sizes.H, **types)
    if config.outprojection:
        project = nnx.Linear(
            sizes.output,
            output_dim,
            use_bias=config.outprojection_bias,
            kernel_init=config.outprojection_weight_init,
            bias_init=config.outprojection_bias_init,
            **types,
        )
    return norm, project


def output_features(
    input_dim: int,
    output_dim: int | None,
    sizes: Sizes,
    *,
    outprojection: bool,
    passthrough: bool = False,
) -> int:
    """Fill in and check the output features.

    Args:
        input_dim: the number of input features, I.
        output_dim: as asked for; None: I, or without an out projection H * DV * JO.
        sizes: of the layer.
        outprojection: whether there is one.
        passthrough: whether the input is added to the output.

    Raises:
        ValueError: `output_dim` is below 1 or does not fit the others.
    """
    inner = sizes.output
    if output_dim is None:
        output_dim = input_dim if outprojection else inner
    require_positive(output_dim=output_dim)
    if not outprojection and output_dim != inner:
        raise ValueError(
            f"output_dim: got {output_dim}, expected H * DV * JO = {inner} without an out "
            "projection"
        )
    if passthrough and output_dim != input_dim:
        raise ValueError(
            f"output_dim: got {output_dim}, expected input_dim = {input_dim}: the passthrough adds "
            "the input to the output"
        )
    return output_dim
