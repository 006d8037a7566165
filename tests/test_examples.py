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
import shutil
from contextlib import chdir
from pathlib import Path

import jax
import pytest

from experiments import train
from plstm_seq import layers, models, ops
from plstm_seq.layers import dag, grid

PACKAGES = ("plstm_seq", "tasks", "experiments")
# How many public names of a package no example shows yet: this only shrinks.
NOT_YET: dict[str, int] = {}
# Functions that take long: their example is skipped, and a test calls them with less to do.
CALLED_BY_A_TEST = {
    "quickstart": "experiments/test_demonstration.py::test_the_command_in_small",
    "cross_validate": "experiments/test_problems.py"
    "::test_every_fold_of_a_data_set_is_trained_and_tested_once",
    "exact_horizons": "experiments/test_probe.py::test_every_probe_of_a_run",
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
    things = {k: x for k, x in public(package).items() if k not in CALLED_BY_A_TEST}
    own = {name: own_examples(thing) for name, thing in things.items()}
    every = "".join(own.values())
    return [
        name
        for name, thing in things.items()
        if not re.search(rf"\b{name}\b", every if inspect.isclass(thing) else own[name])
    ]


@pytest.fixture(scope="session")
def with_a_run(tmp_path_factory):
    """A folder with `runs/parity-1`: the run that the example of `train` makes."""
    folder = tmp_path_factory.mktemp("examples")
    (example,) = doctest.DocTestFinder(recurse=False).find(train)
    with chdir(folder), jax.enable_x64(False):
        assert doctest.DocTestRunner().run(example).failed == 0
    return folder


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_the_examples_run(name, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    if "parity-1" in text and name != train.__module__:
        shutil.copytree(request.getfixturevalue("with_a_run"), tmp_path, dirs_exist_ok=True)
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


@pytest.mark.parametrize(("name", "test"), CALLED_BY_A_TEST.items())
def test_skipped_examples_are_of_what_a_test_calls(name, test):
    file, _, function = test.partition("::")
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    assert f"def {function}(" in text
    packages = [package for package in public_packages() if name in public(package)]
    assert packages
    assert f"{name}(" in inspect.getdoc(public(packages[0])[name]).partition("Example:")[2]


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
