"""Which lengths or sizes a training step sees, in so few shapes that little is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Literal, NamedTuple

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


class Standing(NamedTuple):
    """Where one training is in its curriculum; a resumed run goes on from it.

    Attributes:
        stage: number of the stage, counted from 0; where stages end at steps, always 0.
        begun: the step at which that stage began.
        streak: how many records in a row have reached the accuracy that ends the stage.
    """

    stage: int = 0
    begun: int = 0
    streak: int = 0


START = Standing()


class _BySteps:
    """What is the same for every curriculum whose stages begin at steps known beforehand."""

    # Whether a batch's lengths are known before the steps ahead of it have been taken.
    foreseen: ClassVar[bool] = True

    def last_stage(self, steps: int) -> int | None:
        """Steps of the last stage of a training of `steps`, if only that shows where it begins."""
        del steps
        return None

    def after(self, standing: Standing, step: int, record: Mapping[str, Any]) -> Standing:
        """The standing after the record of the steps up to `step`."""
        del step, record
        return standing

    def end(self, standing: Standing, steps: int) -> int:
        """The step at which a training of `steps` steps ends at the latest."""
        del standing
        return steps


@dataclass(frozen=True)
class Uniform(_BySteps):
    """Lengths drawn uniformly from `minimum .. maximum`: one for each sequence or each batch.

    Arrays are padded to `maximum`: one shape, one compilation.

    Example:
        >>> from plstm_seq.training import Uniform
        >>> Uniform(minimum=3, maximum=40).phase(step=0)
        Phase(minimum=3, maximum=40, bucket=40, until=None)
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
    def buckets(self) -> tuple[int, ...]:
        """The padded lengths that programs are compiled for."""
        return (self.maximum,)

    @property
    def final_start(self) -> int:
        """The first step at which the longest lengths are drawn."""
        return 0

    @property
    def least_steps(self) -> int:
        """The fewest steps that a training with this curriculum may have."""
        return 1

    def phase(self, step: int, standing: Standing = START) -> Phase:
        """What holds at `step`."""
        del step, standing  # the same at every step
        return Phase(self.minimum, self.maximum, self.maximum, None)


@dataclass(frozen=True)
class Sizes(_BySteps):
    """Sizes one after another: `stages` lists (size, steps), and the last stage holds to the end.

    It is for inputs that are not padded (images, grids, graphs of a depth): every batch has the
    size of its stage, and a program is compiled for each size.

    Example:
        >>> from plstm_seq.training import Sizes
        >>> curriculum = Sizes(((8, 100), (16, 50)))
        >>> [curriculum.phase(step).bucket for step in (0, 99, 100)]
        [8, 8, 16]
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
    def buckets(self) -> tuple[int, ...]:
        """The sizes that programs are compiled for."""
        return tuple(dict.fromkeys(size for size, _ in self.stages))

    @property
    def final_start(self) -> int:
        """The first step of the last stage."""
        return _starts(self.stages)[-1]

    @property
    def least_steps(self) -> int:
        """The fewest steps that a training with this curriculum may have."""
        return self.final_start + 1

    def phase(self, step: int, standing: Standing = START) -> Phase:
        """What holds at `step`."""
        del standing
        index, until = _stage(self.stages, step)
        size = self.stages[index][0]
        return Phase(size, size, size, until)


@dataclass(frozen=True)
class _Growing:
    """Lengths that grow from stage to stage."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    stages: tuple[tuple[int, int], ...] = ((4, 200), (8, 200), (16, 200), (40, 400))
    minimum: int = 1
    fixed: bool = False
    draw: Draw = "sequence"
    smallest_bucket: int = 16

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
    def buckets(self) -> tuple[int, ...]:
        """The padded lengths that programs are compiled for."""
        return tuple(dict.fromkeys(self._bucket(length) for length, _ in self.stages))

    def _phase(self, stage: int, until: int | None) -> Phase:
        length = self.stages[stage][0]
        minimum = length if self.fixed else self.minimum
        return Phase(minimum, length, self._bucket(length), until)

    def _bucket(self, length: int) -> int:
        power = 1 << (length - 1).bit_length()
        return min(max(power, self.smallest_bucket), self.longest)


@dataclass(frozen=True)
class Staged(_Growing, _BySteps):
    """Lengths that grow: `stages` lists (length, steps), and the last stage holds to the end.

    In a stage lengths are uniform in `minimum .. length` (`fixed=True`: always `length`). Arrays
    are padded to the next power of two, at least `smallest_bucket` and at most the last stage's
    length, so that stages close to each other share a compiled program.

    Example:
        >>> from plstm_seq.training import Staged
        >>> curriculum = Staged(((4, 100), (12, 100), (40, 400)))
        >>> [curriculum.phase(step).maximum for step in (0, 100, 200)], curriculum.buckets
        ([4, 12, 40], (16, 40))
    """

    kind: Literal["staged"] = "staged"

    @property
    def final_start(self) -> int:
        """The first step at which the longest lengths are drawn."""
        return _starts(self.stages)[-1]

    @property
    def least_steps(self) -> int:
        """The fewest steps that a training with this curriculum may have."""
        return self.final_start + 1

    def phase(self, step: int, standing: Standing = START) -> Phase:
        """What holds at `step`."""
        del standing
        return self._phase(*_stage(self.stages, step))


@dataclass(frozen=True)
class ByAccuracy(_Growing):
    """Lengths that grow once they are learned: `stages` lists (length, most steps).

    A stage ends when the accuracy on whole sequences of the training batches has reached
    `threshold` in `checks` records in a row (there is one record a dispatch), and at the latest
    after its number of steps. The last stage takes all its steps, unless `solved` ends it. The
    learning rate stays at its peak until the last stage begins; its cosine runs over that stage.

    `training.steps` limits all stages together, and training may end long before. If it is less
    than the sum of their steps, training may end in an earlier stage; if it is more, the last stage
    takes the rest. Lengths and their padding are those of `Staged`.

    Example:
        >>> from plstm_seq.training import ByAccuracy
        >>> curriculum = ByAccuracy(((4, 200), (40, 400)), threshold=0.99)
        >>> curriculum.longest, curriculum.least_steps, curriculum.last_stage(steps=600)
        (40, 1, 400)
    """

    threshold: float = 0.99
    checks: int = 1
    kind: Literal["by_accuracy"] = "by_accuracy"

    foreseen: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {self.threshold}")
        if self.checks < 1:
            raise ValueError(f"checks must be >= 1, got {self.checks}")

    def last_stage(self, steps: int) -> int:
        """Steps of the last stage of a training of `steps`; only that shows where it begins."""
        return self.stages[-1][1] + max(0, steps - sum(most for _, most in self.stages))

    @property
    def least_steps(self) -> int:
        """The fewest steps that a training with this curriculum may have."""
        return 1

    def phase(self, step: int, standing: Standing = START) -> Phase:
        """What holds at `step` of a training that stands there."""
        del step
        return self._phase(standing.stage, self._until(standing))

    def after(self, standing: Standing, step: int, record: Mapping[str, Any]) -> Standing:
        """The standing after the record of the steps up to `step`."""
        until = self._until(standing)
        if until is None:
            return standing
        reached = record["sequence_accuracy"] >= self.threshold
        streak = standing.streak + 1 if reached else 0
        if streak >= self.checks or step >= until:
            return Standing(standing.stage + 1, step)
        return standing._replace(streak=streak)

    def end(self, standing: Standing, steps: int) -> int:
        """The step at which a training of `steps` steps ends at the latest."""
        left = sum(most for _, most in self.stages[standing.stage : -1]) + self.last_stage(steps)
        return min(steps, standing.begun + left)

    def _until(self, standing: Standing) -> int | None:
        """The step at which a stage ends at the latest; None: it is the last."""
        if standing.stage + 1 == len(self.stages):
            return None
        return standing.begun + self.stages[standing.stage][1]


Curriculum = Uniform | Staged | ByAccuracy | Sizes


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
