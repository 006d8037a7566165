"""Recipes: configs with names, for a data set that a user has.

config = read_recipe("deit3_t", {"data": "/data/imagenet"})

Recipes are YAML files in this folder. They are configs as `train --config` reads them, except for
two fields: the `size` of the images, and the `epochs` (`whole`, and those of the `warmup`). The
numbers of steps follow from these, from the number of images and from the batch size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import scalars
from experiments.config import ConfigError, ExperimentConfig, from_document, read_task
from tasks.options import nearest

__all__ = ["names", "read_recipe"]

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Returns the names of the recipes.

    Example:
        >>> from experiments import recipes
        >>> "deit3_t" in recipes.names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(
    name: str, options: Mapping[str, Any], batch_size: int | None = None
) -> ExperimentConfig:
    """Returns the config of a recipe for a data set.

    Args:
        name: the name of the recipe, one of `names()`.
        options: options of its task, among them `data`, the folder of the data set.
        batch_size: batch size of training; None: that of the recipe. The number of epochs is the
            recipe's in any case.

    Raises:
        ConfigError: there is no such recipe, or the options or the data set do not fit it.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from experiments.recipes import read_recipe
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        ...         Path(folder, place).mkdir(parents=True)
        ...         Image.new("RGB", (8, 8)).save(Path(folder, place, "0.png"))
        ...     config = read_recipe("deit3_t", {"data": folder}, batch_size=1)
        >>> config.model.width, config.training.steps  # 800 epochs of two images
        (192, 1600)
    """
    if name not in names():
        raise ConfigError(f"no recipe {name!r}; {nearest(name, names())}")
    document = scalars.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    document["task"] |= options
    training = document["training"]
    if batch_size is not None:
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"training.batch_size: got {batch_size!r}, expected a number >= 1")
        training["batch_size"] = batch_size
    epochs, size = document.pop("epochs"), document.pop("size")
    epoch = _images(document["task"]) / training["batch_size"]
    steps = max(1, round(epochs["whole"] * epoch))
    each = max(1, round(epoch))
    return from_document(
        {
            **document,
            "training": {
                **training,
                "steps": steps,
                "checkpoint_every": each,
                "validate_every": each,
                "optimizer": {
                    **training["optimizer"],
                    "warmup_steps": round(epochs["warmup"] * epoch),
                },
                "curriculum": {"kind": "sizes", "stages": [[size, steps]]},
            },
        }
    )


def _images(task: Mapping[str, Any]) -> int:
    try:
        return len(read_task(task).make().train)
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(str(error)) from None
