"""Images from files: sources, augmentations, and batches that can be resumed.

A source is read example by example (`ImageFolder`, `Cifar`), an `Augmentation` changes each, and
`batches` shuffles, stacks and, with a `Mixing`, mixes them. All arrays are NumPy's, on the host.
Reading needs the packages grain and pillow (extra `vision`); importing this needs neither.
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
