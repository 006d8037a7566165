"""A Slurm of one node on this machine: munge, slurmctld and slurmd on loopback, in one folder.

    python tests/support/slurm_node.py install            # Debian's packages; needs root
    python tests/support/slurm_node.py run sinfo           # start, run a command in it, stop
    python tests/support/slurm_node.py start FOLDER        # prints the environment that it needs
    python tests/support/slurm_node.py stop FOLDER

For a throwaway Debian or Ubuntu machine or container: the daemons run as root, without systemd,
cgroups or accounting. Keys, sockets, logs and state lie in the folder, ports are free ones and the
packages' own configuration in /etc is not read, so nothing else on the machine is touched.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
DAEMONS = ("munged", "slurmctld", "slurmd")
_COMMANDS = (*DAEMONS, "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential_seconds}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.own.pid
SlurmdPidFile={folder}/slurmd.own.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
JobRequeue=1
ReturnToService=2
MessageTimeout=20
KillWait=5
SlurmdTimeout=60
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmNodeError(Exception):
    """Slurm cannot run here; the message says why and what to do."""


def missing() -> str | None:
    """What keeps Slurm from running here, and what to do about it; None: nothing."""
    if os.geteuid():
        return "the daemons of a Slurm node run as root, and this is another user"
    absent = [command for command in _COMMANDS if _which(command) is None]
    if absent:
        return (
            f"{', '.join(absent)} not found: install Debian's packages with "
            "`python tests/support/slurm_node.py install`"
        )
    return None


def install() -> None:
    """Installs Debian's packages of Slurm and munge.

    Raises:
        SlurmNodeError: not root, not a Debian or Ubuntu, or no package source can be reached.
    """
    if os.geteuid():
        raise SlurmNodeError("installing packages needs root")
    if shutil.which("apt-get") is None:
        raise SlurmNodeError("there is no apt-get: this needs a Debian or Ubuntu machine")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise SlurmNodeError(f"apt-get {arguments[0]} failed:\n{last}")


class SlurmNode:
    """The daemons of one node; a context manager that starts and stops them.

    Args:
        folder: for everything of the node; None: a new temporary one, removed at the end.
        cpus: how many CPUs Slurm believes in; jobs are not kept to theirs.
        credential_seconds: how long a requeued job waits before it starts again, which in a Slurm
            as installed is two minutes.
    """

    def __init__(
        self, folder: str | Path | None = None, *, cpus: int = 4, credential_seconds: int = 15
    ) -> None:
        self._temporary = folder is None
        # Sockets have short paths, so a temporary folder is not pytest's.
        self.folder = Path(folder or tempfile.mkdtemp(prefix="slurm-")).resolve()
        self._cpus = cpus
        self._credential_seconds = credential_seconds
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Slurm's commands find this node, and no surrounding job."""
        own = {name: text for name, text in os.environ.items() if not name.startswith("SLURM_")}
        return {**own, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, check: bool = True) -> str:
        """Standard output of one of Slurm's commands."""
        return subprocess.run(
            command, env=self.environment, check=check, capture_output=True, text=True, timeout=60
        ).stdout

    def start(self, *, timeout: float = 60) -> None:
        """Starts the daemons and waits until the node takes jobs.

        Raises:
            SlurmNodeError: Slurm is not installed, or a daemon did not come up; ends of the logs.
        """
        with contextlib.ExitStack() as failed:
            failed.callback(self.stop)
            if (reason := missing()) is not None:
                raise SlurmNodeError(reason)
            self._configure()
            folder = self.folder
            munge = ["--foreground", "--force", f"--key-file={folder}/private/munge.key"]
            munge += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/private/munged.pid"]
            munge += [f"--seed-file={folder}/private/munged.seed"]
            self._launch("munged", *munge, "--num-threads=2")
            self._wait_until(lambda: (folder / "munge.socket").exists(), timeout, "munged")
            self._launch("slurmctld", "-D", "-f", f"{folder}/slurm.conf")
            self._launch("slurmd", "-D", "-f", f"{folder}/slurm.conf")
            self._wait_until(self._idle, timeout, "the node")
            failed.pop_all()

    def stop(self) -> None:
        """Cancels what is running, ends the daemons and removes a temporary folder."""
        if self._alive("slurmctld"):
            with contextlib.suppress(subprocess.SubprocessError):
                self.run("scancel", "--user=root", check=False)
                self._drain()
        for daemon in reversed(DAEMONS):
            self._end(daemon)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "SlurmNode":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munge's socket must be reachable
        for name, mode in (("private", 0o700), ("state", 0o755), ("spool", 0o755)):
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name).chmod(mode)
        key = self.folder / "private" / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        controller_port, node_port = _free_ports(2)
        text = _CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().split(".")[0],
            cpus=self._cpus,
            credential_seconds=self._credential_seconds,
            controller_port=controller_port,
            node_port=node_port,
        )
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")

    def _launch(self, daemon: str, *arguments: str) -> None:
        executable = _which(daemon)
        assert executable is not None
        with (self.folder / f"{daemon}.log").open("ab") as log:
            process = subprocess.Popen(
                [executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        (self.folder / f"{daemon}.pid").write_text(str(process.pid))
        self._children[daemon] = process

    def _idle(self) -> bool:
        return self.run("sinfo", "--noheader", "--format=%T", check=False).strip() == "idle"

    def _wait_until(self, done, timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            dead = [name for name in self._children if not self._alive(name)]
            if dead or time.monotonic() > deadline:
                reason = f"{dead[0]} ended" if dead else f"not ready after {timeout:.0f} s"
                raise SlurmNodeError(f"{what} did not come up: {reason}\n{self._log_ends()}")
            time.sleep(0.2)

    def _drain(self, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while self.run("squeue", "--noheader", check=False) and time.monotonic() < deadline:
            time.sleep(0.2)

    def _alive(self, daemon: str) -> bool:
        if (child := self._children.get(daemon)) is not None:
            return child.poll() is None
        # Started by another process: a number alone may by now be someone else's.
        pid = self._read_pid(daemon)
        if pid is None:
            return False
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
        return daemon in words and str(self.folder) in words

    def _read_pid(self, daemon: str) -> int | None:
        try:
            return int((self.folder / f"{daemon}.pid").read_text())
        except (OSError, ValueError):
            return None

    def _end(self, daemon: str) -> None:
        pid = self._read_pid(daemon)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            if pid is None or not self._alive(daemon):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            while self._alive(daemon) and time.monotonic() < deadline:
                time.sleep(0.05)
        (self.folder / f"{daemon}.pid").unlink(missing_ok=True)
        self._children.pop(daemon, None)

    def _log_ends(self, lines: int = 8) -> str:
        parts = []
        for log in sorted(self.folder.glob("*.log")):
            text = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts += [f"--- {log.name}", *text]
        return "\n".join(parts)


def _which(command: str) -> str | None:
    search = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS])
    return shutil.which(command, path=search)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main(words: list[str] | None = None) -> int:
    """The command line; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("install", help="install Debian's packages (root)")
    for action in ("start", "stop"):
        actions.add_parser(action).add_argument("folder", type=Path)
    run = actions.add_parser("run", help="start, run a command, stop")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    chosen = parser.parse_args(words)
    try:
        if chosen.action == "install":
            install()
        elif chosen.action == "start":
            node = SlurmNode(chosen.folder)
            node.start()
            print(f"export SLURM_CONF={node.environment['SLURM_CONF']}")
        elif chosen.action == "stop":
            SlurmNode(chosen.folder).stop()
        else:
            with SlurmNode() as node:
                return subprocess.run(chosen.command, env=node.environment, check=False).returncode
    except SlurmNodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
