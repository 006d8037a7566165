"""Our modules as Equinox modules; needs Equinox (extra `interop`)."""

from typing import Any

import equinox as eqx
from flax import nnx
from jaxtyping import PyTree


class EquinoxModule(eqx.Module):
    """One of our modules: its arrays are leaves, all else is static.

    `filter_jit`, `filter_grad`, `filter_vmap` and `tree_serialise_leaves` see a tree of arrays. Two
    modules of configs that differ in numbers alone have the same structure (see
    `plstm_seq.layers.configured`).

    Attributes:
        parameters: what training changes, nested dictionaries by attribute and index:
            `module.parameters["blocks"][0]["mixer"]["source"]["bias"]`.
        constants: the arrays that the forward pass only reads (`Hyperparameter`), nested alike.
            Their gradients are zero, but an optimizer that decays weights would change them:
            give it the parameters alone (`eqx.partition`, or `eqx.tree_at` with `parameters`).
        graph: the rest, static.
    """

    parameters: PyTree
    constants: PyTree
    graph: nnx.GraphDef = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module; arguments as its own."""
        return self.to_nnx()(*args, **kwargs)

    def to_nnx(self) -> Any:
        """Return a module of ours with these arrays, of the class that it was made from.

        Its methods can be called under Equinox's transformations too, such as
        `module.to_nnx().step(x, state)`.
        """
        return nnx.merge(self.graph, self.parameters, self.constants)


def as_equinox(module: nnx.Module) -> EquinoxModule:
    """Return an Equinox module that computes what `module` does, with its arrays."""
    graph, parameters, constants = nnx.split(module, nnx.Param, ...)
    return EquinoxModule(nnx.to_pure_dict(parameters), nnx.to_pure_dict(constants), graph)
