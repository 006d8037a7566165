"""Records to Weights & Biases, online or into files for `wandb sync`."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from plstm_seq.training.trackers.base import Record

WandbMode = Literal["online", "offline", "disabled"]

# Training came to its end; whatever else closes a tracker shows as failed.
_ENDED = ("finished", "solved")


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
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._logged._asdict()), encoding="utf-8")
        os.replace(part, self._path)


class _Logged(NamedTuple):
    """The run's id, and the last step that it has a record of."""

    id: str
    step: int
