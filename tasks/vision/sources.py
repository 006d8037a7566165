"""Sources of images: a folder with a folder for each class, or the binary files of CIFAR.

An image file is decoded only when it is needed, and only as far as needed. The packages that
reading needs are loaded when they are used.
"""

from __future__ import annotations

import bisect
import importlib
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from tasks.options import check_choice

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""The endings of files that `ImageFolder` reads as images, in lower or upper case."""

_LEFT_BY_SYSTEMS = ("__MACOSX", "@eaDir")
"""Folders that archives and storage devices add to images. Hidden files are left out as well."""

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def package(name: str, of: str) -> Any:
    """Load a module of an optional package.

    Args:
        name: Of the module, such as `PIL.Image`.
        of: Name under which its package is installed.

    Raises:
        ValueError: If the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ValueError(
            f"images from files need the package {of}: pip install 'plstm-seq[vision]'"
        ) from None


def pillow(module: str) -> Any:
    """A module of Pillow, such as `Image`."""
    return package(f"PIL.{module}", "pillow")


Box = tuple[float, float, float, float]
"""The left, top, right and bottom of a part of an image, in pixels."""

_GAP = 2.0
"""The factor by which an image may be too large before it is resampled. Larger images are first
made smaller by a cheaper method, without a visible difference."""


class FileImage:
    """An image whose size is known, but not its pixels.

    Args:
        path: Of the file.

    Raises:
        ValueError: If the file can't be read as an image.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        image = pillow("Image")
        try:
            self._image = image.open(io.BytesIO(path.read_bytes()))
        except Exception as error:  # Pillow raises errors of various types, depending on the format
            raise self._unreadable(error) from error
        self._orientation = _orientation(self._image)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The rows, columns and channels of the image after the rotation that EXIF asks for."""
        rows, columns = self._image.height, self._image.width
        return (columns, rows, 3) if self._orientation in _ON_ITS_SIDE else (rows, columns, 3)

    def pixels(self) -> np.ndarray:
        """Decode the whole image: uint8 `[rows, columns, 3]`.

        Raises:
            ValueError: If the file can't be read as an image.
        """
        return np.asarray(self._decoded())

    def resized(self, size: int, box: Box) -> np.ndarray:
        """Decode a part and resize it to a square with `resampled`: uint8 `[size, size, 3]`.

        A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if the part is then still at least
        twice as large as the square.

        Raises:
            ValueError: If the file can't be read as an image.
        """
        rows, columns, _ = self.shape
        enough = [
            _GAP * size * whole / part
            for whole, part in ((columns, box[2] - box[0]), (rows, box[3] - box[1]))
        ]
        drafted = None
        if self._orientation == _UPRIGHT:
            drafted = self._image.draft(None, tuple(max(1, round(side)) for side in enough))
        if drafted is not None:
            scale = drafted[1][2] / columns
            box = (scale * box[0], scale * box[1], scale * box[2], scale * box[3])
        return resampled(self._decoded(), size, box)

    def _decoded(self) -> Any:
        """Decode the image in RGB, upright."""
        try:
            self._image.load()
            image = self._image if self._image.mode == "RGB" else _in_rgb(self._image)
            if self._orientation != _UPRIGHT:
                turn = getattr(pillow("Image").Transpose, _TURNS[self._orientation])
                image = image.transpose(turn)
        except Exception as error:
            raise self._unreadable(error) from error
        return image

    def _unreadable(self, error: Exception) -> ValueError:
        return ValueError(f"{self._path} can't be read as an image: {error}")


_UPRIGHT = 1
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What EXIF's orientations ask for."""

_ON_ITS_SIDE = (5, 6, 7, 8)


def _orientation(image: Any) -> int:
    """Return EXIF's number for the orientation, or 1 if there is none that can be read."""
    try:
        found = image.getexif().get(pillow("ExifTags").Base.Orientation, _UPRIGHT)
    except Exception:  # damaged EXIF blocks are common, and do not mean that the image is damaged
        return _UPRIGHT
    return found if found in _TURNS else _UPRIGHT


def _in_rgb(image: Any) -> Any:
    """Convert an image of another mode to RGB, scaling values of more than 8 bits.

    Pillow would cut such values off at 255. The range of 16-bit values ends at 65,535. The range of
    floats ends at 1, 255 or 65,535: the smallest of these that no value exceeds.

    Raises:
        ValueError: If values lie outside of all these ranges, or are not finite.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    numbers = np.asarray(image, np.float64)
    low, high = numbers.min(), numbers.max()
    ends = (1, 255, 65535) if image.mode == "F" else (65535,)
    end = next((end for end in ends if low >= 0 and high <= end), None)
    if end is None:
        raise ValueError(f"numbers: got {low:g} to {high:g}, expected 0 to {ends[-1]}")
    return pillow("Image").fromarray(np.rint(numbers * (255 / end)).astype(np.uint8)).convert("RGB")


def resampled(image: Any, size: int, box: Box) -> np.ndarray:
    """Resize a part of a Pillow image to a square by bicubic interpolation.

    Args:
        image: A Pillow image in RGB.
        size: The number of rows, and of columns, of the result.
        box: The part of the image.
    """
    bicubic = pillow("Image").Resampling.BICUBIC
    return np.asarray(image.resize((size, size), bicubic, box=box, reducing_gap=_GAP))


class Example(NamedTuple):
    """One labelled image.

    Attributes:
        image: uint8 `[rows, columns, 3]`, red, green and blue.
        label: Index of its class.
    """

    image: np.ndarray
    label: int


class ImageSource(Protocol):
    """Images by number. Only what is asked for is read."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; the index of a name is its label."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Read one image."""
        ...


class _InParts:
    """A source whose images are in several parts, one after another."""

    _ends: list[int]

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[int, int]:
        """Return the part that holds an image, and the image's position in that part."""
        if not 0 <= index < len(self):
            raise IndexError(f"index: got {index}, expected 0 .. {len(self) - 1}")
        part = bisect.bisect_right(self._ends, index)
        return part, int(index) - (self._ends[part - 1] if part else 0)


class ImageFolder(_InParts):
    """A folder that holds a folder of images for each class, such as that of ImageNet.

    Images are all files below a class's folder whose names end like those of images (`SUFFIXES`),
    in the order of their paths; links are followed, each folder once. Hidden files, and what
    systems leave (`.ipynb_checkpoints`, `._a.png`, `__MACOSX`, `@eaDir`), are neither classes nor
    images. Only the names are held in memory.

    Args:
        root: The folder.
        classes: Names of the folders to read, in the order of their labels; all of them in
            alphabetic order by default. Give a validation set the classes of the training set.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no class, or a class no image.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from tasks.vision import ImageFolder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, name).mkdir()
        ...         Image.new("RGB", (6, 5)).save(Path(folder, name, "0.png"))
        ...     source = ImageFolder(folder)
        ...     print(source.classes, len(source), source[1].image.shape, source[1].label)
        ('cat', 'dog') 2 (5, 6, 3) 1
    """

    def __init__(self, root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no folder {self.root}")
        found = sorted(
            entry.name
            for entry in self.root.iterdir()
            if entry.is_dir() and not _is_by_the_way(entry.name)
        )
        self.classes = tuple(found if classes is None else classes)
        if not self.classes:
            raise ValueError(f"{self.root}: got no folder, expected one for each class")
        self._files = [_images_below(self.root / name) for name in self.classes]
        self._ends = list(itertools.accumulate(map(len, self._files)))

    def path(self, index: int) -> Path:
        """Return the path of an image's file.

        Raises:
            IndexError: If there is no image of that number.
        """
        label, place = self._find(index)
        return self.root / self.classes[label] / self._files[label][place]

    def __getitem__(self, index: int) -> Example:
        image, label = self.open(index)
        return Example(image.pixels(), label)

    def open(self, index: int) -> tuple[FileImage, int]:
        """Return an image, of which only the size has been decoded, and its label.

        Raises:
            IndexError: If there is no image of that number.
            ValueError: If its file can't be read as an image.
        """
        return FileImage(self.path(index)), self._find(index)[0]


def _images_below(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} for the class {folder.name!r}")
    real = os.path.realpath(folder)
    found, seen = [], {real, *map(str, Path(real).parents)}
    for place, folders, names in os.walk(folder, followlinks=True):
        inner = {
            os.path.realpath(os.path.join(place, name)): name
            for name in sorted(folders, reverse=True)
            if not _is_by_the_way(name)
        }
        folders[:] = [name for target, name in inner.items() if target not in seen]
        seen |= inner.keys()
        found += [
            os.path.relpath(os.path.join(place, name), folder)
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES and not _is_by_the_way(name)
        ]
    found.sort()
    if not found:
        raise ValueError(f"{folder}: got no image, expected one of {', '.join(sorted(SUFFIXES))}")
    return found


def _is_by_the_way(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BY_SYSTEMS


class Cifar(_InParts):
    """The binary files of CIFAR-10 or CIFAR-100, 32 x 32.

    A record is one byte for the class (in CIFAR-100 after one for the coarse class) and 3,072 bytes
    for the red, the green and the blue plane, row by row. Files are mapped, not loaded.

    *Source.* Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Args:
        paths: One file or several, one after another, such as `data_batch_1.bin`.
        kind: "cifar10", or "cifar100" with its 100 fine classes.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is empty or doesn't hold whole records, or no file is given.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from tasks.vision import Cifar
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "data_batch_1.bin")
        ...     _ = file.write_bytes(bytes([7]) + bytes(3072))
        ...     source = Cifar(file)
        ...     print(len(source), source[0].label, source[0].image.shape)
        1 7 (32, 32, 3)
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        kind: Literal["cifar10", "cifar100"] = "cifar10",
    ) -> None:
        check_choice("kind", kind, ("cifar10", "cifar100"))
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise ValueError("paths: got none, expected at least one file")
        self._before = 1 if kind == "cifar10" else 2
        self._records = [self._map(Path(path)) for path in given]
        self._paths = [Path(path) for path in given]
        self._ends = list(itertools.accumulate(map(len, self._records)))
        self.classes = tuple(map(str, range(10 if kind == "cifar10" else 100)))

    def _map(self, path: Path) -> np.ndarray:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        size, record = path.stat().st_size, self._before + _PIXELS
        if size == 0 or size % record:
            raise ValueError(f"{path}: got {size} bytes, expected whole records of {record} bytes")
        return np.memmap(path, np.uint8, mode="r").reshape(-1, record)

    def __getitem__(self, index: int) -> Example:
        file, place = self._find(index)
        record = np.array(self._records[file][place])
        label = int(record[self._before - 1])
        if label >= len(self.classes):
            raise ValueError(
                f"{self._paths[file]}: got class {label} in record {place}, expected below "
                f"{len(self.classes)}"
            )
        planes = record[self._before :].reshape(3, _SIDE, _SIDE)
        return Example(np.ascontiguousarray(planes.transpose(1, 2, 0)), label)
