"""Images from files: sources, augmentations, and batches that can be resumed.

A source (`ImageFolder`, `Cifar`) is read example by example. An `Augmentation` changes each of
them, and `batches` shuffles, stacks and, with a `Mixing`, mixes them. All arrays are NumPy arrays
on the host. Reading needs the packages grain and pillow (extra `vision`); importing does not.
"""

from tasks.grid import ImageBatch
from tasks.vision.augmentation import Augmentation, Mixing, cutmix, mixup
from tasks.vision.loading import BatchIterator, batches
from tasks.vision.sources import Cifar, Example, ImageFolder, ImageSource
from tasks.vision.task import ImagesTask

__all__ = [
    "Augmentation",
    "BatchIterator",
    "Cifar",
    "Example",
    "ImageBatch",
    "ImageFolder",
    "ImageSource",
    "ImagesTask",
    "Mixing",
    "batches",
    "cutmix",
    "mixup",
]
