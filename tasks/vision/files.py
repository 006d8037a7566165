"""An image in a file, which is decoded only when, and as far as, it is needed."""

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
        image = pillow("Image")
        try:
            self._image = image.open(io.BytesIO(path.read_bytes()))
        except Exception as error:  # of Pillow's formats, each raises what it likes
            raise self._unreadable(error) from error
        self._orientation = _orientation(self._image)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of the pixels, turned as the camera says."""
        rows, columns = self._image.height, self._image.width
        return (columns, rows, 3) if self._orientation in _ON_ITS_SIDE else (rows, columns, 3)

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
        drafted = None
        if self._orientation == _UPRIGHT:
            drafted = self._image.draft(None, tuple(max(1, round(side)) for side in enough))
        if drafted is not None:
            scale = drafted[1][2] / columns
            box = (scale * box[0], scale * box[1], scale * box[2], scale * box[3])
        return resampled(self._decoded(), size, box)

    def _decoded(self) -> Any:
        """The image in RGB, upright."""
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
    """EXIF's number for it, 1 where there is none or none that can be read."""
    try:
        found = image.getexif().get(pillow("ExifTags").Base.Orientation, _UPRIGHT)
    except Exception:  # a damaged EXIF block, common in collections, is no damaged image
        return _UPRIGHT
    return found if found in _TURNS else _UPRIGHT


def _in_rgb(image: Any) -> Any:
    """An image of another mode; numbers of more than 8 bits in the range that they have.

    Pillow would cut them off at 255. Those of 16 bits go to 65,535; floats go to 1, 255 or 65,535,
    the smallest that none is above.

    Raises:
        ValueError: If numbers lie outside of all these ranges, or are not finite.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    numbers = np.asarray(image, np.float64)
    low, high = numbers.min(), numbers.max()
    ends = (1, 255, 65535) if image.mode == "F" else (65535,)
    end = next((end for end in ends if low >= 0 and high <= end), None)
    if end is None:
        raise ValueError(f"its numbers go from {low:g} to {high:g}, not from 0 to {ends[-1]}")
    return pillow("Image").fromarray(np.rint(numbers * (255 / end)).astype(np.uint8)).convert("RGB")


def resampled(image: Any, size: int, box: Box) -> np.ndarray:
    """Resize a part of an image of Pillow to a square by bicubic interpolation.

    Args:
        image: RGB image of Pillow.
        size: Rows and columns of the result.
        box: The part.
    """
    bicubic = pillow("Image").Resampling.BICUBIC
    return np.asarray(image.resize((size, size), bicubic, box=box, reducing_gap=_GAP))
