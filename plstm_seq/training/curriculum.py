"""Which lengths or sizes a training step sees, in so few shapes that little is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

Draw = Literal["sequence", "batch"]
Limit = Int[Array, ""] | np.int32


class Phase(NamedTuple):
    """What holds from some step until step `until` (None: to the end).

    `bucket` is the padded length of the arrays, the only number here that a program is compiled
    for. The lengths drawn lie in `minimum .. maximum`, both included.
    """

    minimum: int
    maximum: int
    bucket: int
    until: int | None


@dataclass(frozen=True)
class Uniform:
    """Lengths drawn uniformly from `minimum .. maximum`: one for each sequence or each batch.

    Arrays are padded to `maximum`: one shape, one compilation.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    minimum: int = 1
    maximum: int = 40
    draw: Draw = "sequence"
    kind: Literal["uniform"] = "uniform"

    def __post_init__(self):
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(
                f"minimum and maximum must satisfy 1 <= minimum <= maximum, "
                f"got {self.minimum} and {self.maximum}"
            )
        _check_draw(self.draw)

    @property
    def longest(self) -> int:
        """The longest length that training reaches."""
        return self.maximum

    @property
    def final_start(self) -> int:
        """The first step at which the longest lengths are drawn."""
        return 0

    def phase(self, step: int) -> Phase:  # noqa: ARG002 (the same at every step)
        """What holds at `step`."""
        return Phase(self.minimum, self.maximum, self.maximum, None)


@dataclass(frozen=True)
class Sizes:
    """Sizes one after another: `stages` lists (size, steps), and the last stage holds to the end.

    For inputs that are not padded (images, grids, graphs of a depth): every batch has its stage's
    size, and a program is compiled for each.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    draw: ClassVar[Draw] = "batch"

    stages: tuple[tuple[int, int], ...] = ((8, 1000),)
    kind: Literal["sizes"] = "sizes"

    def __post_init__(self):
        if not self.stages or any(min(stage) < 1 for stage in self.stages):
            raise ValueError(
                f"stages must be one or more (size, steps), each number >= 1, got {self.stages}"
            )

    @property
    def longest(self) -> int:
        """The largest size that training reaches."""
        return max(size for size, _ in self.stages)

    @property
    def final_start(self) -> int:
        """The first step of the last stage."""
        return _starts(self.stages)[-1]

    def phase(self, step: int) -> Phase:
        """What holds at `step`."""
        index, until = _stage(self.stages, step)
        size = self.stages[index][0]
        return Phase(size, size, size, until)


@dataclass(frozen=True)
class Staged:
    """Lengths that grow: `stages` lists (length, steps), and the last stage holds to the end.

    In a stage lengths are uniform in `minimum .. length` (`fixed=True`: always `length`). Arrays
    are padded to the next power of two, at least `smallest_bucket` and at most the last stage's
    length, so that stages close to each other share a compiled program.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    stages: tuple[tuple[int, int], ...] = ((4, 200), (8, 200), (16, 200), (40, 400))
    minimum: int = 1
    fixed: bool = False
    draw: Draw = "sequence"
    smallest_bucket: int = 16
    kind: Literal["staged"] = "staged"

    def __post_init__(self):
        lengths = [length for length, _ in self.stages]
        if not lengths or lengths != sorted(lengths) or len(set(lengths)) < len(lengths):
            raise ValueError(f"stages must have growing lengths, got {self.stages}")
        if any(steps < 1 for _, steps in self.stages):
            raise ValueError(f"stages must each last 1 step or more, got {self.stages}")
        if not 1 <= self.minimum <= lengths[0]:
            raise ValueError(
                f"minimum must lie in 1 .. {lengths[0]} (the first stage), got {self.minimum}"
            )
        if self.smallest_bucket < 1:
            raise ValueError(f"smallest_bucket must be >= 1, got {self.smallest_bucket}")
        _check_draw(self.draw)

    @property
    def longest(self) -> int:
        """The longest length that training reaches."""
        return self.stages[-1][0]

    @property
    def final_start(self) -> int:
        """The first step at which the longest lengths are drawn."""
        return _starts(self.stages)[-1]

    def phase(self, step: int) -> Phase:
        """What holds at `step`."""
        index, until = _stage(self.stages, step)
        length = self.stages[index][0]
        return Phase(
            minimum=length if self.fixed else self.minimum,
            maximum=length,
            bucket=self._bucket(length),
            until=until,
        )

    def _bucket(self, length: int) -> int:
        power = 1 << (length - 1).bit_length()
        return min(max(power, self.smallest_bucket), self.longest)


Curriculum = Uniform | Staged | Sizes


def _starts(stages: tuple[tuple[int, int], ...]) -> list[int]:
    """The step at which each stage begins."""
    return list(accumulate((steps for _, steps in stages[:-1]), initial=0))


def _stage(stages: tuple[tuple[int, int], ...], step: int) -> tuple[int, int | None]:
    """The stage of a step, and the step at which the next begins."""
    starts = _starts(stages)
    index = sum(step >= start for start in starts) - 1
    return index, starts[index + 1] if index + 1 < len(starts) else None


def draw_lengths(
    key: Array, batch: int, minimum: Limit, maximum: Limit, draw: Draw
) -> Int[Array, " batch"]:
    """Lengths of one batch, uniform in `minimum .. maximum` (traced, so nothing is recompiled)."""
    shape = (batch,) if draw == "sequence" else ()
    # The remainder of 32 random bits is off uniform by one part in 2^32 / span: `randint` would
    # hash three times to remove that, which is paid in compile time.
    span = jnp.asarray(maximum - minimum + 1).astype(jnp.uint32)
    lengths = minimum + (jax.random.bits(key, shape, jnp.uint32) % span).astype(jnp.int32)
    return jnp.broadcast_to(lengths, (batch,))


def _check_draw(draw: str) -> None:
    if draw not in ("sequence", "batch"):
        raise ValueError(f"draw must be 'sequence' or 'batch', got {draw!r}")
