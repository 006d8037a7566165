"""One image in a file, of which no more is decoded than is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tasks.vision.packages import pillow

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""

_GAP = 2.0
"""How many times too large an image may be before it is resampled: what is cheaper than the
resampling makes it smaller first, without a difference that one sees."""


class FileImage:
    """An image whose size is known, but not its pixels.

    Args:
        path: Of the file.

    Raises:
        ValueError: If the file can't be read as an image.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._image = pillow("Image").open(io.BytesIO(path.read_bytes()))
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of the pixels."""
        return (self._image.height, self._image.width, 3)

    def pixels(self) -> np.ndarray:
        """Decode the whole image: uint8 `[rows, columns, 3]`.

        Raises:
            ValueError: If the file can't be read as an image.
        """
        return np.asarray(self._decoded())

    def resized(self, size: int, box: Box) -> np.ndarray:
        """Decode a part, resized to a square as by `resampled`: uint8 `[size, size, 3]`.

        A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where the part is, even so, at least
        twice as large as the square.

        Raises:
            ValueError: If the file can't be read as an image.
        """
        rows, columns, _ = self.shape
        enough = [
            _GAP * size * whole / part
            for whole, part in ((columns, box[2] - box[0]), (rows, box[3] - box[1]))
        ]
        drafted = self._image.draft(None, tuple(max(1, round(side)) for side in enough))
        if drafted is not None:
            scale = drafted[1][2] / columns
            box = (scale * box[0], scale * box[1], scale * box[2], scale * box[3])
        return resampled(self._decoded(), size, box)

    def _decoded(self) -> Any:
        try:
            self._image.load()
        except OSError as error:
            raise self._unreadable(error) from error
        return self._image if self._image.mode == "RGB" else self._image.convert("RGB")

    def _unreadable(self, error: OSError) -> ValueError:
        return ValueError(f"{self._path} can't be read as an image: {error}")


def resampled(image: Any, size: int, box: Box) -> np.ndarray:
    """Resize a part of an image of Pillow to a square by bicubic interpolation.

    Args:
        image: RGB image of Pillow.
        size: Rows and columns of the result.
        box: The part.
    """
    bicubic = pillow("Image").Resampling.BICUBIC
    return np.asarray(image.resize((size, size), bicubic, box=box, reducing_gap=_GAP))
