"""Numbers of a config as leaves: what differs in them shares a structure and a program."""

import dataclasses
import importlib
import pkgutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_parameters import randomised

import plstm_seq.layers
import plstm_seq.models
from plstm_seq.layers import Hyperparameter, PLSTM1DConfig, PLSTM1DLayer, structure
from plstm_seq.layers.configured import fill_hyperparameters
from plstm_seq.layers.initializers import Constant, FanIn, Initializer, Normal
from plstm_seq.layers.transition import (
    Bounded,
    Diagonal,
    Factorized,
    HouseholderProduct,
    Orthogonal,
    Transition,
)

WEIGHTS = {
    f"{name}_weight_init": Normal(stddev=0.3) for name in ("eigenvalue", "inproj", "outproj")
}
# Config, and the value of each of its leaves in another one.
CASES = {
    "bounded": (Bounded(dim=2, norm_bound=0.9), {"norm_bound": 0.3}),
    "diagonal positive": (Diagonal(dim=2, entries="positive"), {"eigenvalue_factor": 2.3}),
    "diagonal signed": (Diagonal(dim=2), {"eigenvalue_factor": 2.3}),
    "householder": (HouseholderProduct(dim=2), {"beta_max": 0.7}),
    **{
        f"factorized {name}": (
            Factorized(dim=2, eigenvalue_representation=name, **WEIGHTS),
            {"eigenvalue_factor": 1.7, "orthogonalization_factor": 0.3},
        )
        for name in ("tanh", "logsigmoid", "expexp")
    },
    "factorized published": (
        Factorized(dim=2, published_normalization=True, **WEIGHTS),
        {"eigenvalue_factor": 1.7, "orthogonalization_factor": 0.3},
    ),
}
cases = pytest.mark.parametrize(("config", "values"), CASES.values(), ids=CASES)
X = np.random.default_rng(0).normal(size=(3, 4))


def make(config, param_dtype=jnp.float64, **options) -> Transition:
    types = {"param_dtype": param_dtype, **options}
    return randomised(lambda: Transition(2, 4, config, **types, rngs=nnx.Rngs(0)))


@cases
def test_every_leaf_of_a_family_is_an_array_and_no_parameter(config, values):
    assert set(config.leaf_fields) == set(values)
    found = dict(nnx.to_flat_state(nnx.state(make(config), Hyperparameter)))
    assert {name: float(leaf[...]) for (name,), leaf in found.items()} == {
        name: getattr(config, name) for name in values
    }
    assert not set(found) & set(dict(nnx.to_flat_state(nnx.state(make(config), nnx.Param))))


@cases
def test_the_matrix_is_what_the_config_alone_makes(config, values):
    """Against the config's floats, which never were arrays."""
    for one in (config, dataclasses.replace(config, **values)):
        module = make(one)
        quantities = {name: module._project(name, jnp.asarray(X)) for name in one.quantities()}
        np.testing.assert_array_equal(module(X), one.matrix(quantities, 2))


@cases
def test_one_program_and_one_vmap_for_all_values(config, values):
    modules = [make(config), make(dataclasses.replace(config, **values))]
    graphs, states = zip(*map(nnx.split, modules), strict=True)
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])

    traced = []

    @jax.jit
    def run(state):
        traced.append(True)
        return nnx.merge(graphs[0], state)(X)

    alone = [run(state) for state in states]
    assert len(traced) == 1
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    together = jax.vmap(run)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-14)


@cases
def test_no_gradient_reaches_a_leaf(config, values):
    graph, state = nnx.split(make(config))
    gradients = jax.grad(lambda state: jnp.sum(nnx.merge(graph, state)(X)))(state)
    for (name,), gradient in nnx.to_flat_state(gradients):
        assert (name in values) == (not np.any(gradient[...])), name


@pytest.mark.parametrize(
    ("types", "stored", "computed"),
    [
        ({"param_dtype": jnp.bfloat16}, "float32", "float32"),
        ({"param_dtype": jnp.float32, "dtype": jnp.bfloat16}, "float32", "float32"),
        ({"param_dtype": jnp.float32, "dtype": jnp.float64}, "float32", "float64"),
        ({"param_dtype": jnp.float64, "dtype": jnp.float32}, "float64", "float32"),
    ],
    ids=["bfloat16", "computes in bfloat16", "computes in float64", "computes in float32"],
)
def test_types(types, stored, computed):
    module = make(Bounded(dim=2, norm_bound=0.9), **types)
    assert module(X.astype(types.get("dtype", types["param_dtype"]))).dtype == computed
    assert module.norm_bound.dtype == stored
    assert float(module.norm_bound[...]) == pytest.approx(0.9, rel=1e-7)
    assert not module.norm_bound[...].weak_type


def test_an_abstract_module_is_filled_from_its_configs():
    mixer = PLSTM1DConfig(transition=Diagonal(dim=1, eigenvalue_factor=3.0))
    layer = nnx.eval_shape(lambda: PLSTM1DLayer(8, mixer, rngs=nnx.Rngs(0)))
    fill_hyperparameters(layer)
    assert float(layer.transition.eigenvalue_factor[...]) == 3.0
    assert not isinstance(layer.source.bias.get_value(), jax.Array)


def test_structure_leaves_out_initialisers_and_leaves_and_nothing_else():
    base = PLSTM1DConfig(num_heads=2, transition=Diagonal(dim=2))

    def changed(**options):
        return dataclasses.replace(base, **options)

    same = [
        changed(transition=Diagonal(dim=2, eigenvalue_factor=1.0)),
        changed(transition=Diagonal(dim=2, eigenvalue_bias_init=Constant(-1.0))),
        changed(source=dataclasses.replace(base.source, weight_init=FanIn(3.0))),
        changed(initial_state_init=Constant()),
    ]
    other = [
        changed(num_heads=4),
        changed(transition=Diagonal(dim=2, entries="positive")),
        changed(transition=Diagonal(dim=1)),
        changed(transition=Orthogonal(dim=2)),
        changed(direct=None),
        changed(convolution_inputs=("query",)),
        changed(source=dataclasses.replace(base.source, activation="tanh")),
    ]
    assert {structure(config) for config in same} == {structure(base)}
    assert len({structure(config) for config in (base, *other)}) == 1 + len(other)


def test_a_module_tells_its_own_config():
    config = Diagonal(dim=2, eigenvalue_factor=3.0)
    assert make(config).config is config
    assert "eigenvalue_factor=3.0" in repr(make(config).kept)
    with pytest.raises(AttributeError):
        make(config).config = config


def configs():
    """Every config of a layer or a model that has a default."""
    found = {}
    for package in (plstm_seq.layers, plstm_seq.models):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for cls in vars(importlib.import_module(module.name)).values():
                if isinstance(cls, type) and "kind" in getattr(cls, "__dataclass_fields__", ()):
                    found[cls.__name__] = cls
    return [cls for name, cls in sorted(found.items()) if not issubclass(cls, Initializer)]


@pytest.mark.parametrize("cls", configs(), ids=lambda cls: cls.__name__)
def test_none_in_place_of_a_whole_number_is_refused_by_name(cls):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if hints[field.name] is int:
            with pytest.raises(ValueError, match=rf"{field.name}: got None"):
                dataclasses.replace(cls(), **{field.name: None})
