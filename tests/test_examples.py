"""The examples of docstrings run, and say what comes out; every op, layer and model has one."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import jax
import pytest

import experiments
import plstm_seq
import tasks
from plstm_seq import layers, models, ops
from plstm_seq.layers import dag, grid


def modules():
    """Names of all modules in which there is an example."""
    for package in (plstm_seq, tasks, experiments):
        names = [package.__name__]
        names += [x.name for x in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        for name in names:
            path = importlib.util.find_spec(name).origin
            if ">>> " in Path(path).read_text(encoding="utf-8"):
                yield name


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_run(name):
    with jax.enable_x64(False):  # as users have it
        result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def public():
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


@pytest.mark.parametrize("found", list(public()))
def test_ops_layers_and_models_have_an_example(found):
    assert ">>> " in inspect.getdoc(found)
