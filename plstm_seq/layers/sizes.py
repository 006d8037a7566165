"""The sizes of a pLSTM layer, and those that follow from others."""

from typing import Any, NamedTuple

from plstm_seq.layers.checks import require_divisible, require_positive


class Sizes(NamedTuple):
    """All sizes of a layer, in the letters of `plstm_seq.notation`; H heads."""

    H: int
    DK: int
    DV: int
    JK: int
    JQ: int
    JV: int
    JT: int
    JO: int

    @property
    def output(self) -> int:
        """The features before the out projection, H * DV * JO."""
        return self.H * self.DV * self.JO


class HasSizes:
    """A layer's config whose fields are named as the letters of `Sizes`, `num_heads` for H.

    JV and JO may be None: JT. DK and DV may be None: the input's features over H * JK and H * JV.
    """

    num_heads: int
    JK: int
    JQ: int
    JV: int | None
    JO: int | None
    DK: int | None
    DV: int | None
    sub_heads: Any
    tie_query_key: bool
    transition: Any

    def check_sizes(self) -> None:
        """Raise `ValueError` if a size is below 1, or a tied query has not the keys' dimension."""
        named = ("num_heads", "JK", "JQ", "JV", "JO", "DK", "DV", "sub_heads")
        sizes = {name: getattr(self, name) for name in named}
        require_positive(**{name: size for name, size in sizes.items() if size is not None})
        if self.tie_query_key and self.JQ != self.JK:
            raise ValueError(
                f"tie_query_key: got JQ = {self.JQ} and JK = {self.JK}, expected the same"
            )

    def sizes(self, input_dim: int) -> Sizes:
        """Fill in the sizes that follow from the others.

        Args:
            input_dim: the features of the layer's input.

        Returns:
            All sizes.

        Raises:
            ValueError: DK or DV was left out and the input features do not divide into it.
        """
        require_positive(input_dim=input_dim)
        JT = 1 if self.transition is None else self.transition.dim
        JV = JT if self.JV is None else self.JV
        return Sizes(
            H=self.num_heads,
            DK=self._features("DK", input_dim, "JK", self.JK),
            DV=self._features("DV", input_dim, "JV", JV),
            JK=self.JK,
            JQ=self.JQ,
            JV=JV,
            JT=JT,
            JO=JT if self.JO is None else self.JO,
        )

    def _features(self, name: str, input_dim: int, letter: str, dim: int) -> int:
        given = getattr(self, name)
        if given is not None:
            return given
        by = self.num_heads * dim
        what = f"input_dim, where {name} is None,"
        require_divisible(what, input_dim, f"num_heads * {letter}", by)
        return input_dim // by
