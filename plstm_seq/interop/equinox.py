"""Wraps our modules as Equinox modules; needs Equinox (extra `interop`)."""

from typing import Any

import equinox as eqx
from flax import nnx
from jaxtyping import PyTree


class EquinoxModule(eqx.Module):
    """One of our modules as a pytree whose leaves are its arrays; everything else is static.

    `filter_jit`, `filter_grad`, `filter_vmap` and `tree_serialise_leaves` see a tree of arrays. Two
    modules whose configs differ only in numbers have the same structure (see
    `plstm_seq.layers.configured`).

    Attributes:
        parameters: The arrays that training changes, in dictionaries nested by attribute and index:
            `module.parameters["blocks"][0]["mixer"]["source"]["bias"]`.
        constants: The arrays that the forward pass only reads (`Hyperparameter`), nested in the
            same way. Their gradients are zero, but an optimizer that decays weights would change
            them: give it only the parameters (`eqx.partition`, or `eqx.tree_at` with `parameters`).
        graph: The rest of the module, which is static.
    """

    parameters: PyTree
    constants: PyTree
    graph: nnx.GraphDef = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with the arguments that the wrapped module takes."""
        return self.to_nnx()(*args, **kwargs)

    def to_nnx(self) -> Any:
        """Return an nnx module with these arrays, of the class that was wrapped.

        The module's methods can be called under Equinox's transformations too, for example
        `module.to_nnx().step(x, state)`.
        """
        return nnx.merge(self.graph, self.parameters, self.constants)


def as_equinox(module: nnx.Module) -> EquinoxModule:
    """Return an Equinox module that has the arrays of `module` and computes the same."""
    graph, parameters, constants = nnx.split(module, nnx.Param, ...)
    return EquinoxModule(nnx.to_pure_dict(parameters), nnx.to_pure_dict(constants), graph)
