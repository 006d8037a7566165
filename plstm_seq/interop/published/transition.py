"""Reads the published configuration of a transition."""

from plstm_seq.interop.published.fields import Fields
from plstm_seq.interop.published.parts import ignore_types, read_initializer
from plstm_seq.layers.transition import Factorized


def read_transition(fields: Fields, **sizes: int) -> Factorized:
    """Read a transition's configuration; `sizes` are what its size fields must be.

    The published normalisations come with their defects (`published_normalization`), since
    published weights were trained with them.
    """
    ignore_types(fields)
    for name, size in sizes.items():
        fields.expect(name, size)
    mode = fields.take("normalization_mode")
    factor = fields.take("orthogonalization_factor")
    return Factorized(
        dim=sizes["transition_dim"],
        sub_heads=fields.take("sub_heads"),
        weight=fields.take("weight"),
        eigenvalue_representation=fields.take("eigenvalue_representation"),
        eigenvalue_factor=fields.take("eigenvalue_factor"),
        symmetric=fields.take("symmetric"),
        normalization_mode=mode,
        # The published code has this field in every mode and reads it in one.
        orthogonalization_factor=factor if mode == "exponential_orthogonalization" else 1.0,
        published_normalization=True,
        orthogonalization_order=fields.take("orthogonalization_order"),
        eigenvalue_bias_init=read_initializer(fields, "eigenvalue_bias_init"),
        eigenvalue_weight_init=read_initializer(fields, "eigenvalue_weight_init"),
        inproj_bias_init=read_initializer(fields, "inproj_bias_init"),
        inproj_weight_init=read_initializer(fields, "inproj_weight_init"),
        outproj_bias_init=read_initializer(fields, "outproj_bias_init"),
        outproj_weight_init=read_initializer(fields, "outproj_weight_init"),
    )
