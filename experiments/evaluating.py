"""Measures how accurate a run is at lengths beyond those of its training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import polars

from experiments.bookmarks import Bookmarks
from experiments.files import check_writable, waited_for
from experiments.run import Run, as_run
from experiments.streams import snapped, stream_of
from plstm_seq.evaluation import (
    AVERAGED,
    SNAPPED,
    LengthGeneralization,
    Snapped,
    add_rows,
    length_generalization,
    mixture_of_lengths,
    size_generalization,
    to_frame,
)
from plstm_seq.evaluation.length import Row
from plstm_seq.evaluation.size import InOrder
from plstm_seq.training.interrupt import terminate_as_interrupt


class NotKeptError(OSError):
    """The result of an evaluation could not be written.

    Attributes:
        result: the result.
    """

    def __init__(self, run: Run, result: LengthGeneralization, error: OSError):
        super().__init__(f"{run.evaluation_path} could not be written: {error}")
        self.result = result


def evaluate(
    run: Run | str | Path,
    lengths: Sequence[int] | None = None,
    *,
    num_sequences: int | None = None,
    snap_every: int | None = None,
    progress: bool = True,
) -> LengthGeneralization:
    """Measures accuracy against length on fresh sequences, and keeps it in the run's folder.

    Rows are added to those that the run has. Rows of other lengths, numbers of sequences, seeds and
    training steps stay. `run.evaluations` holds all rows, and `run.evaluation` those that were
    measured together.

    An evaluation of sequences that was stopped or killed goes on where it was: the same call on the
    same machine then gives the same rows as if it had not been stopped.

    Args:
        run: a trained run, or its folder or name.
        lengths: the lengths to measure (of images, grids and graphs their sizes or depths); None:
            those of the config.
        num_sequences: number of sequences at each length; None: that of the config.
        snap_every: number of symbols between corrections of the state in a second pass; None: that
            of the config.
        progress: whether a line on standard error shows the progress, if that is a terminal.

    Returns:
        Token, sequence and last-position accuracy at every length, with intervals and horizons, and
        the checkpoint that was measured. If the config asks for them, there are further rows: for
        a mixture of lengths (`mixture_of_lengths`), for the second pass (`snapped_token` and so
        on), and for the averaged parameters (`averaged_token` and so on). If a later checkpoint is
        damaged, `notes` says so.

    Raises:
        RunError: the run has no checkpoint, predicts numbers, or its folder is read-only.
        DamagedError: the rows that the run has cannot be read, or no trained checkpoint can.
        NotKeptError: the rows could not be written; the error holds the result.
        ValueError: a length or number is below 1; or `snap_every` is given, but the model has no
            state along a length, or one that grows.
        KeyboardInterrupt: Ctrl-C or a signal stopped the evaluation; the next call goes on from
            there.

    Example:
        >>> from experiments import evaluate
        >>> result = evaluate("parity-1", [8, 64], num_sequences=32)  # see `experiments.train`
        >>> result.step, result.row("token", 64).value > 0.9
        (200, True)
    """
    run = as_run(run)
    run.check_has_accuracy()
    check_writable(run.folder, run.evaluation_path.name)
    if run.evaluation_path.exists():
        _ = run.evaluations  # raises now, not after the work, if the rows cannot be read
    settings = run.config.evaluation
    lengths = settings.lengths if lengths is None else [int(length) for length in lengths]
    chosen, num_sequences = num_sequences, int(num_sequences or settings.num_sequences)
    snap_every = settings.snap_every if snap_every is None else snap_every
    bookmarks = None
    if run.problem.axis == "length":
        bookmarks = _bookmarks(run, lengths, num_sequences, snap_every, progress)
        with terminate_as_interrupt(), bookmarks:
            result = _by_length(run, lengths, num_sequences, snap_every, bookmarks)
    elif snap_every is not None or settings.mixture is not None:
        raise ValueError(f"{run.task.name} has no state along a length to snap, and no mixture")
    else:
        everything = run.problem.examples
        if everything is not None and chosen is not None:
            raise ValueError(f"{run.task.name} is measured on all {everything} examples it has")
        # Examples that are drawn without repetition come in one batch.
        in_order = isinstance(run.problem.draw, InOrder)
        measure = partial(
            size_generalization,
            draw=run.problem.draw,
            sizes=lengths,
            chance=run.task.chance,
            key=jax.random.key(settings.seed),
            num_examples=num_sequences if everything is None else everything,
            batch_size=settings.batch_size if everything is None or in_order else everything,
            axis=run.problem.axis,
        )
        try:
            averaged = _averaged_model(run)
            result = measure(run.model)
            result = replace(result, rows=result.rows + _averaged(averaged, measure))
        finally:
            run.problem.release()
    step, identity, notes = run.checkpoint
    result = replace(result, step=step, checkpoint=identity, notes=notes)
    try:
        _keep(run, result, snap_every)
    except OSError as error:
        raise NotKeptError(run, result, error) from error
    if bookmarks is not None:
        bookmarks.remove()
    return result


def _bookmarks(
    run: Run,
    lengths: Sequence[int],
    num_sequences: int,
    snap_every: int | None,
    progress: bool,
) -> Bookmarks:
    """Returns the bookmarks of this evaluation."""
    return Bookmarks(
        run,
        progress=progress,
        lengths=sorted(set(lengths)),
        num_sequences=num_sequences,
        snap_every=snap_every,
        batch_size=run.config.evaluation.batch_size,
        chunk_size=run.config.evaluation.chunk_size,
        evaluation_seed=run.config.evaluation.seed,
    )


def _by_length(
    run: Run,
    lengths: Sequence[int],
    num_sequences: int,
    snap_every: int | None,
    bookmarks: Bookmarks,
) -> LengthGeneralization:
    settings = run.config.evaluation
    measure = partial(
        length_generalization,
        source=stream_of(run.task) or run.task.sample,
        lengths=lengths,
        key=jax.random.key(settings.seed),
        num_sequences=num_sequences,
        **_shared(run),
    )
    averaged = _averaged_model(run)
    bookmark = bookmarks.of("evaluate")
    result = measure(run.model, chunk_size=settings.chunk_size, bookmark=bookmark)
    rows = result.rows
    if settings.mixture is not None:
        rows += mixture_of_lengths(
            run.model,
            run.task.sample,
            *settings.mixture,
            key=jax.random.key(settings.seed),
            num_sequences=settings.mixture_sequences,
            **_shared(run),
        )
    bookmark = bookmarks.of("evaluate, averaged")
    again = partial(measure, chunk_size=settings.chunk_size, bookmark=bookmark)
    rows += _averaged(averaged, again)
    if snap_every is not None:
        bookmark = bookmarks.of("evaluate, snapped")
        rows += _behind(SNAPPED, measure(_snapped(run), chunk_size=snap_every, bookmark=bookmark))
    return replace(result, rows=rows)


def _averaged_model(run: Run) -> Any:
    """Returns the model with the same checkpoint's averaged parameters, or None without any."""
    return None if run.config.training.average is None else run.averaged_model


def _averaged(model: Any, measure: Callable[[Any], LengthGeneralization]) -> tuple[Row, ...]:
    """Measures the model with averaged parameters; returns no rows if there is none."""
    return () if model is None else _behind(AVERAGED, measure(model))


def _behind(prefix: str, result: LengthGeneralization) -> tuple[Row, ...]:
    return tuple(row._replace(metric=prefix + row.metric) for row in result.rows)


def _shared(run: Run) -> dict[str, Any]:
    return {"chance": run.task.chance, "batch_size": run.config.evaluation.batch_size}


def _snapped(run: Run) -> Snapped:
    """Returns the model with snapping; prototypes are learned on sequences of training length."""
    settings, length = run.config.evaluation, run.config.training.curriculum.longest
    options = {"seed": settings.seed, "batch_size": settings.batch_size}
    return snapped(run.model, run.task, length=length, **options)


def _keep(run: Run, result: LengthGeneralization, snap_every: int | None) -> None:
    """Adds the rows of a result to the file of the run."""
    config = run.config
    transition = getattr(config.model.mixer, "transition", None)
    frame = to_frame(
        result,
        run=run.name,
        task=config.task.name,
        mixer=config.model.mixer.kind,
        transition=None if transition is None else transition.kind,
        JT=None if transition is None else transition.dim,
        seed=config.seed,
        trained_length=config.training.curriculum.longest,
        step=result.step,
        checkpoint=result.checkpoint,
        passed_over="; ".join(result.notes) or None,
        evaluation_seed=config.evaluation.seed,
    )
    corrected = polars.col("metric").str.starts_with(SNAPPED)
    every = polars.when(corrected).then(polars.lit(snap_every, polars.Int64)).alias("snap_every")
    with waited_for(run.folder / ".evaluation.lock"):
        add_rows(run.evaluation_path, frame.with_columns(every))
