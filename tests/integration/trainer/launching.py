"""A stand-in for torchrun that starts what it is told to, run as a script; and how the tests talk to it.

Everything that a rank inherits is set in the child between fork and exec, as a torchrun with these things would hand
them down. A nursery lives as long as this process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ryzen_trainer.worker import numa

PATIENCE_S = 60.0
RUN_ID = "job"
WORKER = str(Path(sys.executable).with_name("ryzen-worker"))
HOWS = ["cold", "warm"]


class NotAllowed(Exception):  # noqa: N818 - a reason to skip
    """This machine lets nobody put on what a test wants a rank to inherit."""


def wait_until(condition: Callable[[], Any], what: str = "") -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what or condition}"
        time.sleep(0.01)
    return found


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        """What the script printed as JSON in its last line."""
        return json.loads(self.out.splitlines()[-1])


def words_of(result: Result) -> str:
    """Standard error without what only faulthandler knows: addresses, and how many modules are loaded."""
    lines = [
        line for line in result.err.splitlines() if not line.startswith(("ryzen-worker: the nursery", "Extension"))
    ]
    kept = (line for line in lines if "newborn.py" not in line and "nursery.py" not in line)
    return "\n".join("Thread" if "0x" in line else line for line in kept).strip()


@dataclass
class Started:
    """One rank as torchrun sees it."""

    launcher: Launcher
    pid: int
    out: Path
    err: Path

    def wait(self) -> Result:
        code = self.launcher.ask(wait=self.pid)["code"]
        return Result(code, self.out.read_text(), self.err.read_text())

    def says(self, line: str) -> None:
        wait_until(lambda: line in self.out.read_text(), f"{line!r} in the output; stderr: {self.err.read_text()}")

    def says_pid(self) -> int:
        """The first word that the script prints is its pid."""
        return int(wait_until(lambda: self.out.read_text().endswith("\n") and self.out.read_text()).split()[0])


@dataclass
class Launcher:
    """`environment`: of this launcher, and so of all that it starts."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run_dir = self.folder / "run"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self.job = self.run_dir / "jobs" / RUN_ID
        self._count = 0
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("RYZEN_", "TORCHELASTIC_"))}
        environment = {**keep, "RYZEN_RUN_DIR": str(self.run_dir), "OMP_NUM_THREADS": "1", **self.environment}
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **words: Any) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(words) + "\n")
        stdin.flush()
        answer = stdout.readline()
        assert answer, "the launcher has died"
        found: dict[str, Any] = json.loads(answer)
        return found

    def start(self, how: str, words: list[str], *, local_rank: int = 0, **inherited: Any) -> Started:
        """`inherited`: env, stdin (text), cwd, program (before the command), and what `_inherit` puts on."""
        self._count += 1
        out, err, given = (self.folder / f"{self._count}.{name}" for name in ("out", "err", "in"))
        given.write_text(inherited.pop("stdin", ""))
        command = [WORKER, *words] if how == "warm" else [sys.executable, "-u", *words]
        command = [*inherited.pop("program", []), *command]
        env = {"RANK": str(local_rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": RUN_ID}
        env |= inherited.pop("env", {})
        streams = {"out": str(out), "err": str(err), "in": str(given)}
        folder = str(inherited.pop("cwd", self.folder))
        answer = self.ask(start=command, env=env, cwd=folder, **streams, **inherited)
        if "refused" in answer:
            raise NotAllowed(f"nothing can be started with {inherited}")
        return Started(self, answer["pid"], out, err)

    def run(self, how: str, words: list[str], **inherited: Any) -> Result:
        return self.start(how, words, **inherited).wait()

    def script(self, name: str, text: str) -> str:
        """A file of that name in the folder, and its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    @property
    def nurseries(self) -> list[int]:
        return [int(json.loads(each.read_text())["pid"]) for each in self.job.glob("nursery-*.json")]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        wait_until(lambda: not self.left(), f"nothing left of {self.folder}: {self.left()}")

    def left(self) -> list[str]:
        """Processes below this launcher's run directory, and files of nurseries and workers."""
        files = [str(each) for pattern in ("nursery-*", "worker-*", ".worker-*") for each in self.job.glob(pattern)]
        return processes_with(f"RYZEN_RUN_DIR={self.run_dir}") + files


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def processes_with(variable: str) -> list[str]:
    """Living ones whose environment at their exec had that NAME=value."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and variable.encode() in Path(entry.path, "environ").read_bytes().split(b"\0"):
                state = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append(f"{entry.name} {Path(entry.path, 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


def _serve(lines: IO[str]) -> None:
    running: dict[int, subprocess.Popen[bytes]] = {}
    for line in lines:
        words = json.loads(line)
        answer = _started(words, running) if "start" in words else {"code": running.pop(words["wait"]).wait()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _started(words: dict[str, Any], running: dict[int, subprocess.Popen[bytes]]) -> dict[str, Any]:
    try:
        process = _start(words)
    except subprocess.SubprocessError:  # what `_inherit` met is not told
        return {"refused": True}
    running[process.pid] = process
    return {"pid": process.pid}


def _start(words: dict[str, Any]) -> subprocess.Popen[bytes]:
    with open(words["out"], "wb") as out, open(words["err"], "wb") as err, open(words["in"], "rb") as given:  # noqa: PTH123
        return subprocess.Popen(
            words["start"], stdin=given, stdout=out, stderr=err, cwd=words["cwd"], start_new_session=True,
            env={**os.environ, **words["env"]}, preexec_fn=lambda: _inherit(words),
        )  # fmt: skip


def _inherit(words: dict[str, Any]) -> None:
    if "umask" in words:
        os.umask(words["umask"])
    if "nice" in words:
        os.nice(words["nice"])
    if "affinity" in words:
        os.sched_setaffinity(0, words["affinity"])
    if "batch" in words:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if "numa" in words:
        numa.set_policy(words["numa"])
    for path, value in words.get("files", {}).items():
        Path(path).write_text(value)
    for name, value in words.get("limits", {}).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    for number in words.get("ignore", ()):
        signal.signal(number, signal.SIG_IGN)
    for number in words.get("close", ()):
        os.close(number)


if __name__ == "__main__":
    _serve(sys.stdin)
