"""Reads a nested mapping field by field, and reports the fields that were never read."""

from collections.abc import Mapping
from typing import Any

from plstm_seq.layers import initializers as init
from plstm_seq.layers.initializers import Initializer

_MISSING = object()

# Our initialiser for each published one, and the names of the options that both have.
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
# The fields with initialisers of kernels [in, out]. Other weights have the input axis last.
_OF_KERNELS = (
    *("upproj_weight_init", "downproj_weight_init", "outprojection_weight_init"),
    *("attn_weight_init", "out_weight_init", "head_init", "head_weight_init"),
)


class Fields:
    """The fields of one published configuration.

    Each field can be taken once. `leftovers` then lists the fields that were not used, in this
    configuration and in those nested in it. The fields `dtype` and `param_dtype` count as used,
    because in our code they are arguments of the module and not of its configuration.

    Args:
        fields: The configuration.
        path: The prefix of field names in messages.
    """

    def __init__(self, fields: Mapping[str, Any], path: str = ""):
        self._fields = dict(fields)
        self._path = path
        self._problems: list[str] = []
        self._children: list[Fields] = []
        self.ignore("dtype param_dtype")

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Return a field and count it as used.

        Raises:
            KeyError: If the field is absent and there is no default.
        """
        if default is _MISSING and name not in self._fields:
            raise KeyError(f"{self._path}{name}")
        return self._fields.pop(name, default)

    def options(self, names: str) -> dict[str, Any]:
        """Return several fields by their names, which are separated by spaces.

        Fields whose names end with `_init` are returned as initialisers.
        """
        return {
            name: self.initializer(name) if name.endswith("_init") else self.take(name)
            for name in names.split()
        }

    def ignore(self, names: str) -> None:
        """Count fields as used that have no effect or follow from others.

        Args:
            names: The names of the fields, separated by spaces.
        """
        for name in names.split():
            self._fields.pop(name, None)

    def expect(self, name: str, *values: Any) -> None:
        """Count a field as used, and report it as a leftover if it has none of these values.

        The field may be absent.
        """
        got = self._fields.pop(name, values[0])
        if got not in values:
            options = " or ".join(map(repr, values))
            self._problems.append(f"{self._path}{name} = {got!r} (only {options})")

    def expect_all(self, **expected: Any) -> None:
        """Call `expect` for several fields with one permitted value each."""
        for name, value in expected.items():
            self.expect(name, value)

    def below(self, name: str) -> "Fields | None":
        """Return the configuration in a field, or None if the field is None or absent."""
        fields = self._fields.pop(name, None)
        if fields is None:
            return None
        child = Fields(fields, f"{self._path}{name}.")
        self._children.append(child)
        return child

    def required(self, name: str) -> "Fields":
        """Return the configuration in a field.

        Raises:
            KeyError: If the field is None or absent.
        """
        fields = self.below(name)
        if fields is None:
            raise KeyError(f"{self._path}{name}")
        return fields

    def initializer(self, name: str, input_axis: int | None = None) -> Initializer:
        """Return the initialiser in a field.

        Args:
            name: The name of the field.
            input_axis: The axis of the inputs, for initialisers that depend on the fan-in. None
                means that the field's name decides. (The published `axis` is the axis that is *not*
                counted, and is always -1.)
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
        """List the fields that were not used, and those that had an unexpected value."""
        unused = [f"{self._path}{name} = {value!r}" for name, value in self._fields.items()]
        below = [problem for child in self._children for problem in child.leftovers()]
        return self._problems + unused + below


def _diagonal(fields: Fields) -> Initializer:
    fields.ignore("value")  # the published initialiser does not use it
    axes = (fields.take(name, ()) for name in ("in_axes", "out_axes"))
    in_axes, out_axes = ((each,) if isinstance(each, int) else tuple(each) for each in axes)
    return init.ScaledIdentity(1.0, in_axes, out_axes) if in_axes or out_axes else init.Ones()
