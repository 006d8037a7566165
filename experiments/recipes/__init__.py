"""Recipes: configs with names, for a data set that a user has.

config = read_recipe("deit3_t", {"data": "/data/imagenet"})

Recipes are YAML files beside this one, configs as `train --config` reads them, but for the fields
`size` of the images and `epochs` (`whole`, and those of the `warmup`): steps follow from these,
from how many images there are and from the batch size.
"""

from experiments.recipes.recipe import names, read_recipe

__all__ = ["names", "read_recipe"]
