"""Where the records of a training go: the terminal, TensorBoard, Weights & Biases.

The file of records, which every run has, is in `records.py`.
"""

from __future__ import annotations

import importlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from plstm_seq.files import write_whole
from plstm_seq.layers.arguments import require_positive
from plstm_seq.training.records import Record

WandbMode = Literal["online", "offline", "disabled"]

# Training came to its end; whatever else closes a tracker shows as failed.
_ENDED = ("finished", "solved")
# A terminal may be closed while training goes on, or before it is saved: nobody watches then.
_SHOWN = suppress(OSError)


class Tracker(Protocol):
    """Receives the records of one training, in order.

    Example:
        >>> from plstm_seq.training import Tracker
        >>> class LowestLoss:
        ...     def start(self, step, steps):
        ...         self.loss = float("inf")
        ...     def log(self, record):
        ...         self.loss = min(self.loss, record["loss"])
        ...     def close(self, status):
        ...         print(f"{status}, lowest loss {self.loss}")
        >>> tracker: Tracker = LowestLoss()
        >>> tracker.start(0, steps=2)
        >>> tracker.log({"step": 1, "loss": 0.5})
        >>> tracker.close("finished")
        finished, lowest loss 0.5
    """

    def start(self, step: int, steps: int) -> None:
        """Training starts or resumes after `step` of `steps`: forget all records past `step`."""
        ...

    def log(self, record: Record) -> None:
        """Take a record; it must be safe before this returns (a checkpoint may follow)."""
        ...

    def close(self, status: str) -> None:
        """Training ended: `finished`, `solved`, `diverged`, `interrupted` or `failed`."""
        ...


class CompositeTracker:
    """Passes everything on to each of its trackers in turn.

    Example:
        >>> import sys
        >>> from plstm_seq.training import CompositeTracker, ProgressTracker
        >>> names = ("one", "two")
        >>> tracker = CompositeTracker([ProgressTracker(name, stream=sys.stdout) for name in names])
        >>> tracker.start(0, steps=2)
        >>> tracker.close("interrupted")
        one: interrupted at step 0
        two: interrupted at step 0
    """

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def start(self, step: int, steps: int) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.start(step, steps)

    def log(self, record: Record) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            tracker.log(record)

    def close(self, status: str) -> None:
        """See `Tracker`."""
        for tracker in self._trackers:
            # Training that failed has a reason of its own; a tracker that cannot write its end, as
            # in a folder that was removed, does not replace it, nor keep the others open.
            with suppress(OSError) if status == "failed" else nullcontext():
                tracker.close(status)


class ProgressTracker:
    """Shows loss, accuracy, tokens/s and time left on stderr.

    On a terminal one line is kept up to date. Elsewhere (in a log file or a pipe) plain lines are
    written: for the first record, about `plain_lines` times during training, and at the end.

    Example:
        >>> import sys
        >>> from plstm_seq.training import ProgressTracker
        >>> tracker = ProgressTracker("parity", stream=sys.stdout)
        >>> tracker.start(0, steps=2)
        >>> tracker.log({"step": 1, "loss": 0.5, "seconds": 3.0, "tokens_per_second": 2000.0})
        parity: step 1/2  loss 0.5000  2.0k tokens/s  0:03 left
        >>> tracker.close("interrupted")
        parity: interrupted at step 1
    """

    def __init__(self, name: str = "train", *, stream: TextIO | None = None, plain_lines: int = 10):
        require_positive(plain_lines=plain_lines)
        self.name = name
        self._console = Console(file=sys.stderr if stream is None else stream)
        self._plain_lines = plain_lines
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._steps = self._step = 0
        self._next = 0.0

    def start(self, step: int, steps: int) -> None:
        """Show the bar, or say where training starts."""
        self._steps, self._step, self._next = steps, step, 0.0
        with _SHOWN:
            self._open(step, steps)

    def _open(self, step: int, steps: int) -> None:
        if not self._console.is_terminal:
            if step:
                self._print(f"resuming after step {step} of {steps}")
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(self.name, total=steps, completed=step, numbers="compiling")

    def log(self, record: Record) -> None:
        """Show the record's numbers."""
        step = int(record["step"])
        taken, self._step = step - self._step, step
        with _SHOWN:
            self._show(record, step, taken)

    def _show(self, record: Record, step: int, taken: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, numbers=numbers(record))
        elif step >= self._next:
            left = record["seconds"] / max(taken, 1) * (self._steps - step)
            place = f"step {step}/{self._steps}"
            self._print(f"{place}  {numbers(record)}  {_clock(left)} left")
            share = self._steps / self._plain_lines
            self._next = (step // share + 1) * share

    def close(self, status: str) -> None:
        """Stop the live line and say how training ended."""
        with _SHOWN:
            if self._bar is not None:
                self._bar.stop()
            self._print(f"{status} at step {self._step}")
        self._bar = self._task = None

    def _print(self, text: str) -> None:
        self._console.print(f"{self.name}: {text}", markup=False, highlight=False, soft_wrap=True)


def numbers(record: Record) -> str:
    """The record's stage, loss, accuracies of labels, and speed in one short line."""
    # Of several members the means.
    stage = (
        f"stage {record['stage']:.3g} (to length {record['maximum_length']:.3g})  "
        if "stage" in record
        else ""
    )
    accuracies = "".join(
        f"{name} {record[f'{name}_accuracy']:.3f}  "
        for name in ("token", "sequence")
        if f"{name}_accuracy" in record
    )
    speed = f"{_thousands(record['tokens_per_second'])} tokens/s"
    return f"{stage}loss {record['loss']:.4f}  {accuracies}{speed}"


def _thousands(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class TensorBoardTracker:
    """Writes a record's numbers as scalars; a resumed training hides those past its checkpoint.

    Example:
        >>> import tempfile
        >>> from plstm_seq.training import TensorBoardTracker
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tracker = TensorBoardTracker(folder)
        ...     tracker.start(0, steps=2)
        ...     tracker.log({"step": 1, "loss": 0.5})
        ...     tracker.close("finished")
        ...     len(list(Path(folder).glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writer: Any = None

    def start(self, step: int, steps: int) -> None:
        """Open a new event file; TensorBoard drops older events past `step`."""
        del steps
        # Imported here: a training without it should not pay for protobuf.
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)

    def log(self, record: Record) -> None:
        """Write the record's numbers at its step."""
        if self._writer is None:
            raise RuntimeError("log before start: there is no event file")
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self, status: str) -> None:
        """Close the event file."""
        del status
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def require_wandb() -> Any:
    """The package wandb.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ModuleNotFoundError:
        raise ValueError(
            "the tracker wandb needs the package wandb: pip install 'plstm-seq[wandb]'"
        ) from None


class WandbTracker:
    """Logs a record's numbers to one wandb run per folder, also after a resume.

    The run's id and the last logged step are kept in `folder/wandb.json`. wandb takes steps only in
    ascending order, so records that a resumed training makes again are left out: wandb has them
    already. wandb sends in the background, so the last records may be lost when a machine fails;
    `metrics.jsonl` has them all.

    Example:
        >>> from plstm_seq.training import JsonlTracker, WandbTracker
        >>> try:
        ...     tracker = WandbTracker("runs/parity", project="parity", mode="offline")
        ... except ValueError:  # wandb is not installed
        ...     tracker = JsonlTracker("runs/parity/metrics.jsonl")
        >>> tracker.close("interrupted")  # nothing was begun, and nothing written
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        project: str = "plstm-seq",
        name: str | None = None,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        mode: WandbMode | None = None,
    ):
        """Find wandb; nothing is written or sent before `start`.

        Args:
            folder: of the run; wandb's own files go to `folder/wandb`.
            project: wandb's project.
            name: shown for the run; None: the folder's name.
            group: runs shown together, for instance the name of a sweep; None: none.
            config: what the run was made from, to filter and group by.
            mode: whether to send; None: what WANDB_MODE or wandb's settings say.

        Raises:
            ValueError: wandb is not installed.
        """
        # Imported here: a training without it should not need it.
        self._wandb = require_wandb()
        self.folder = Path(folder)
        self.project, self.group, self.mode = project, group, mode
        self.name = self.folder.absolute().name if name is None else name
        self.config = None if config is None else dict(config)
        self._run: Any = None
        self._logged = _Logged("", 0)

    def start(self, step: int, steps: int) -> None:
        """Open the folder's run, or begin it."""
        del step, steps
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logged = self._read()
        self._write()
        self._run = self._wandb.init(
            project=self.project,
            id=self._logged.id,
            # Not "must": a run that so far was offline is unknown to the server.
            resume="allow",
            # The members of a group are tracked side by side in one process.
            reinit="create_new",
            dir=str(self.folder),
            name=self.name,
            group=self.group,
            config=self.config,
            mode=self.mode,
        )

    def log(self, record: Record) -> None:
        """Log the record's numbers at its step, unless that step was logged before."""
        if self._run is None:
            raise RuntimeError("log before start: there is no wandb run")
        step = int(record["step"])
        if step <= self._logged.step:
            return
        self._run.log({name: value for name, value in record.items() if name != "step"}, step=step)
        self._logged = self._logged._replace(step=step)
        self._write()

    def close(self, status: str) -> None:
        """Note the status in the run's summary and end it."""
        if self._run is not None:
            self._run.summary["status"] = status
            self._run.finish(exit_code=0 if status in _ENDED else 1)
            self._run = None

    @property
    def _path(self) -> Path:
        return self.folder / "wandb.json"

    def _read(self) -> _Logged:
        if not self._path.exists():
            return _Logged(secrets.token_hex(8), 0)
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return _Logged(str(document["id"]), int(document["step"]))
        except (OSError, ValueError, TypeError, KeyError):
            raise OSError(
                f"{self._path} is damaged: delete it, and a new run of wandb is begun"
            ) from None

    def _write(self) -> None:
        write_whole(self._path, json.dumps(self._logged._asdict()))


class _Logged(NamedTuple):
    """The run's id, and the last step that it has a record of."""

    id: str
    step: int
