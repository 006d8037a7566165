"""Reads a nested mapping field by field, and remembers the fields that nobody asked for."""

from collections.abc import Mapping
from typing import Any

from plstm_seq.layers import initializers as init
from plstm_seq.layers.initializers import Initializer

_MISSING = object()

# Published initialiser -> ours, and the options that both have.
_INITIALIZERS: dict[str, tuple[type[Initializer], str]] = {
    "ZerosInit": (init.Zeros, ""),
    "OnesInit": (init.Ones, ""),
    "ConstantInit": (init.Constant, "value"),
    "LinspaceInit": (init.Linspace, "low high axis"),
    "NormalInit": (init.Normal, "mean stddev"),
    "TruncatedNormalInit": (init.TruncatedNormal, "mean stddev lower upper"),
    "DiagonalInit": (init.ScaledIdentity, "in_axes out_axes"),
    "SmallInit": (init.Small, "mup_init_scale"),
    "WangInit": (init.Wang, "mup_init_scale num_blocks"),
}
# The initialisers of kernels [in, out]; the other weights end with the axis of their inputs.
_OF_KERNELS = (
    *("upproj_weight_init", "downproj_weight_init", "outprojection_weight_init"),
    *("attn_weight_init", "out_weight_init", "head_init", "head_weight_init"),
)


class Fields:
    """The fields of one published configuration.

    Every field is taken once; `leftovers` then names those for which there was no use, in this
    configuration and in those below it. The types `dtype` and `param_dtype` count as used: ours
    are arguments of the module, not of its configuration.

    Args:
        fields: the configuration.
        path: its name in messages.
    """

    def __init__(self, fields: Mapping[str, Any], path: str = ""):
        self._fields = dict(fields)
        self._path = path
        self._problems: list[str] = []
        self._children: list[Fields] = []
        self.ignore("dtype param_dtype")

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Return a field and count it as used; `KeyError` where it is absent without default."""
        if default is _MISSING and name not in self._fields:
            raise KeyError(f"{self._path}{name}")
        return self._fields.pop(name, default)

    def options(self, names: str) -> dict[str, Any]:
        """Return fields by their names, which stand with spaces between; `*_init` initialisers."""
        return {
            name: self.initializer(name) if name.endswith("_init") else self.take(name)
            for name in names.split()
        }

    def ignore(self, names: str) -> None:
        """Count fields as used that have no effect, or follow from others."""
        for name in names.split():
            self._fields.pop(name, None)

    def expect(self, name: str, *values: Any) -> None:
        """Use a field that may only have one of these values; absent is fine."""
        got = self._fields.pop(name, values[0])
        if got not in values:
            options = " or ".join(map(repr, values))
            self._problems.append(f"{self._path}{name} = {got!r} (only {options})")

    def expect_all(self, **expected: Any) -> None:
        """Use fields that may each have one value alone; absent is fine."""
        for name, value in expected.items():
            self.expect(name, value)

    def below(self, name: str) -> "Fields | None":
        """Return the configuration in a field, or None where the field is None or absent."""
        fields = self._fields.pop(name, None)
        if fields is None:
            return None
        child = Fields(fields, f"{self._path}{name}.")
        self._children.append(child)
        return child

    def required(self, name: str) -> "Fields":
        """Return the configuration in a field; `KeyError` where there is none."""
        fields = self.below(name)
        if fields is None:
            raise KeyError(f"{self._path}{name}")
        return fields

    def initializer(self, name: str, input_axis: int | None = None) -> Initializer:
        """Return the initialiser in a field.

        Args:
            name: the field.
            input_axis: the axis of the inputs, for initialisers that depend on the fan-in; None:
                as the field's name says. The published ones name the axis that they do *not*
                count, always -1.
        """
        fields = self.below(name)
        if fields is None:
            raise ValueError(f"{name}: got no initialiser")
        class_name = fields.take("class_name")
        if class_name not in _INITIALIZERS:
            raise ValueError(f"{name}: got {class_name!r}, expected one of {list(_INITIALIZERS)}")
        kind, names = _INITIALIZERS[class_name]
        if kind is init.ScaledIdentity:
            return _diagonal(fields)
        options = fields.options(names)
        if kind in (init.Small, init.Wang):
            fields.expect("axis", -1)
            by_name = -2 if name in _OF_KERNELS else -1
            options["axis"] = by_name if input_axis is None else input_axis
        return kind(**options)

    def leftovers(self) -> list[str]:
        """Return the fields not used, and those used that had another value than expected."""
        unused = [f"{self._path}{name} = {value!r}" for name, value in self._fields.items()]
        below = [problem for child in self._children for problem in child.leftovers()]
        return self._problems + unused + below


def _diagonal(fields: Fields) -> Initializer:
    fields.ignore("value")  # the published initialiser has no use for it
    axes = (fields.take(name, ()) for name in ("in_axes", "out_axes"))
    in_axes, out_axes = ((each,) if isinstance(each, int) else tuple(each) for each in axes)
    return init.ScaledIdentity(1.0, in_axes, out_axes) if in_axes or out_axes else init.Ones()
