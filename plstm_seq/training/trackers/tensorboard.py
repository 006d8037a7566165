"""Records as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plstm_seq.training.trackers.base import Record


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
