"""The examples of docstrings run, and say what comes out; every public function and class has one.

Public is what a package lists in its `__all__`. A name is shown where it occurs in an example of
its own docstring, other than to be imported. A class may also be shown by another public name of
its package, such as the function that takes or returns it.
"""

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest

from plstm_seq import layers, models, ops
from plstm_seq.layers import dag, grid

PACKAGES = ("plstm_seq", "tasks", "experiments")
# How many public names of a package no example shows yet: this only shrinks.
NOT_YET = {
    "experiments": 24,
    "experiments.probing": 9,
    "experiments.problems": 4,
    "experiments.protocols": 14,
    "plstm_seq.interop.published": 9,
    "plstm_seq.layers": 3,
    "plstm_seq.layers.dag": 3,
    "plstm_seq.layers.grid": 1,
    "plstm_seq.layers.mixers": 21,
    "plstm_seq.layers.transition": 7,
    "plstm_seq.models": 2,
    "plstm_seq.probing": 55,
}


def modules():
    """Names of all modules."""
    for name in PACKAGES:
        yield name
        package = importlib.import_module(name)
        yield from (x.name for x in pkgutil.walk_packages(package.__path__, f"{name}."))


def modules_with_examples():
    """Names of all modules in which there is an example."""
    for name in modules():
        path = importlib.util.find_spec(name).origin
        if ">>> " in Path(path).read_text(encoding="utf-8"):
            yield name


def public_packages():
    """Names of all packages that say what is public in them."""
    for name in modules():
        package = importlib.import_module(name)
        if hasattr(package, "__path__") and hasattr(package, "__all__"):
            yield name


def public(package):
    """The public functions and classes of a package, by name; not what is only a value."""
    found = importlib.import_module(package)
    objects = {name: getattr(found, name) for name in found.__all__}
    return {k: x for k, x in objects.items() if inspect.isclass(x) or inspect.isroutine(x)}


@functools.cache
def examples(module):
    """The examples of a module that doctest runs, by what they are of; without their imports."""
    found = {}
    for test in doctest.DocTestFinder().find(importlib.import_module(module)):
        run = [x for x in test.examples if doctest.SKIP not in x.options]
        shown = [x for x in run if not x.source.startswith(("import ", "from "))]
        found[test.name] = "".join(x.source + x.want for x in shown)
    return found


def own_examples(thing):
    """The examples of a function, or of a class and its methods."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    of = examples(thing.__module__)
    return "".join(text for x, text in of.items() if x == name or x.startswith(f"{name}."))


def not_shown(package):
    """The public names of a package that no example shows."""
    things = public(package)
    own = {name: own_examples(thing) for name, thing in things.items()}
    every = "".join(own.values())
    return [
        name
        for name, thing in things.items()
        if not re.search(rf"\b{name}\b", every if inspect.isclass(thing) else own[name])
    ]


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_the_examples_run(name):
    if name == "tasks.vision.loading":
        pytest.importorskip("grain", reason="the extra vision is not installed")
    with jax.enable_x64(False):  # as users have it
        result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("package", list(public_packages()))
def test_every_public_function_and_class_is_shown(package):
    lacking = not_shown(package)
    assert len(lacking) <= NOT_YET.get(package, 0), f"no example shows {', '.join(lacking)}"


def called():
    """Ops, layers and models: what is called, not what is only a value."""
    for package in (ops, layers, grid, dag, models):
        for name in package.__all__:
            found = getattr(package, name)
            a_value = name.endswith(("Config", "State", "Inputs"))
            a_base = getattr(found, "_is_protocol", False) or found is dag.MessagePassing
            a_block = found in (models.PreUpBlock, models.PostUpBlock)  # shown by `make_block`
            left_out = a_value or a_base or a_block
            if inspect.isroutine(found) or (inspect.isclass(found) and not left_out):
                yield pytest.param(found, id=f"{package.__name__}.{name}")


@pytest.mark.parametrize("found", list(called()))
def test_ops_layers_and_models_have_an_example_of_their_own(found):
    assert ">>> " in inspect.getdoc(found)
