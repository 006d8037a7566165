"""A run that tests attack copies of."""

import shutil

import pytest
from attacked import config

from experiments import (
    evaluate,
    load_run,
    train,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = train(config(), tmp_path_factory.mktemp("runs") / "whole", progress=False)
    evaluate(run)
    return run.folder


@pytest.fixture
def copy(whole, tmp_path):
    return load_run(shutil.copytree(whole, tmp_path / "copy"))
