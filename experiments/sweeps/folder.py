"""A sweep on disk: `sweep.yaml`, `members/`, `groups/`, `results.parquet`."""

import re
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from experiments.config import ConfigError
from experiments.files import free_folder, holder, locked, write_new
from experiments.new_runs import complete_run
from experiments.run import Run, RunError
from experiments.sweeps.plan import MemberPlan, Plan, plan
from experiments.sweeps.sweep import Sweep, sealed_yaml, stored_sweep, to_yaml
from plstm_seq.training.disk import check_path
from tasks.options import nearest

ROOT = Path("sweeps")
SWEEP = "sweep.yaml"


class SweepFolder:
    """The folder of a sweep; its files are read when they are needed.

    Attributes:
        path: the path of the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @cached_property
    def sweep(self) -> Sweep:
        """The sweep that the folder holds.

        Raises:
            DamagedError: its file is not what was written.
            ConfigError: its file holds something that this version does not know.
        """
        return stored_sweep(self.path / SWEEP)

    @cached_property
    def plan(self) -> Plan:
        """The members of the sweep, and the groups in which they are trained."""
        return plan(self.sweep)

    def run(self, member: MemberPlan) -> Run:
        """Returns the run of a member, whose folder may not exist yet."""
        return Run(self._member(member.name), member.config)

    def _member(self, name: str) -> Path:
        """Returns the folder of a member.

        A long name ends with a hash of the values that vary. The rest of it depends on the order of
        fields, which was another one in older versions, so such a folder is found by its hash.
        """
        members = self.path / "members"
        tail = re.search(r"-[0-9a-f]{8}$", name)
        if tail is None or (members / name).exists():
            return members / name
        (found, *others) = [*members.glob(f"*{tail[0]}"), members / name]
        return found if len(others) == 1 else members / name

    def create_run(self, member: MemberPlan) -> Run:
        """Returns the run of a member, and writes the files that its folder lacks.

        Raises:
            RunError: the folder holds another run.
        """
        return complete_run(member.config, self.run(member).folder)

    def lock(self, group: str) -> AbstractContextManager[bool]:
        """Locks a group while a block runs; yields whether this process got the lock."""
        self._groups.mkdir(exist_ok=True)
        return locked(self._groups / f"{group}.lock")

    def holder(self, group: str) -> str | None:
        """Says which process works on a group, or returns None if none does."""
        return holder(self._groups / f"{group}.lock")

    def log(self, group: str) -> Path:
        """Returns the file of what a worker process printed about a group."""
        return self._groups / f"{group}.log"

    def events(self, group: str) -> Path:
        """Returns the folder of a group's TensorBoard events, which are means over its members."""
        return self._groups / group

    @property
    def _groups(self) -> Path:
        return self.path / "groups"


def find_sweep(path: str | Path) -> Path:
    """Finds the folder of a sweep.

    Args:
        path: its folder, or its name in `sweeps/`.

    Raises:
        RunError: there is no such sweep; the nearest names are given.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.results import find_sweep
        >>> from experiments.sweeps import create_sweep, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = create_sweep(sweep, f"{folder}/seeds")
        ...     find_sweep(f"{folder}/seeds").name
        'seeds'
    """
    for folder in (Path(path), ROOT / path):
        if (folder / SWEEP).is_file():
            return folder
    known = [file.parent.name for file in ROOT.glob(f"*/{SWEEP}")]
    raise RunError(f"no sweep at {str(path)!r}, nor in {ROOT}/; {nearest(Path(path).name, known)}")


def open_sweep(path: str | Path) -> SweepFolder:
    """Opens a sweep.

    Args:
        path: its folder, or its name in `sweeps/`.

    Raises:
        RunError: there is no such sweep; the nearest names are given.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.sweeps import SweepFolder, create_sweep, open_sweep, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = create_sweep(sweep, f"{folder}/seeds")
        ...     opened: SweepFolder = open_sweep(f"{folder}/seeds")
        ...     print(opened.name, [member.name for member in opened.plan.members])
        seeds ['seed=0', 'seed=1']
    """
    return SweepFolder(find_sweep(path))


def create_sweep(sweep: Sweep, path: str | Path | None = None) -> SweepFolder:
    """Makes the folder of a sweep, or opens it if it exists and holds the same sweep.

    Args:
        sweep: the sweep; it is expanded first, so that nothing is written if it has a mistake.
        path: where the folder is made; None: `sweeps/<task>-<n>` with the first n that is free.

    Raises:
        ConfigError: the sweep cannot be expanded.
        RunError: `path` holds another sweep or something else.

    Example:
        >>> import tempfile
        >>> from experiments import default_config
        >>> from experiments.sweeps import create_sweep, sweep_of_words
        >>> sweep = sweep_of_words(default_config("parity"), ["seed=0..1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     created = create_sweep(sweep, f"{folder}/seeds")
        ...     print(created.sweep == sweep, [path.name for path in created.path.iterdir()])
        True ['sweep.yaml']
    """
    plan(sweep)
    text = sealed_yaml(sweep)
    check_path(ROOT if path is None else Path(path))
    folder = SweepFolder(free_folder(ROOT, sweep.base.task.name) if path is None else path)
    _refuse_others(folder.path)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        write_new(folder.path / SWEEP, text)
    except FileExistsError:
        _refuse_another(folder, sweep)
    return folder


def _refuse_others(path: Path) -> None:
    """Refuses a path that holds something other than a sweep.

    A folder that is empty, or has only hidden files of a process that was killed, is accepted.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file: take another name")
    if not path.exists() or (path / SWEEP).exists():
        return
    if any(not file.name.startswith(".") for file in path.iterdir()):
        raise RunError(f"{path} is not a sweep and not empty: take another name")


def _refuse_another(folder: SweepFolder, sweep: Sweep) -> None:
    try:
        same = to_yaml(folder.sweep) == to_yaml(sweep)
    except ConfigError as error:
        raise RunError(f"{error}; take another name") from None
    if not same:
        raise RunError(
            f"{folder.path} is another sweep: take another --name, or continue that one with "
            f"plstm-seq resume {folder.path}"
        )
