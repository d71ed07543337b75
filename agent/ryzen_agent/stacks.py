"""Python stacks of a process that is not ours: py-spy reads them from its memory, faulthandler writes them when asked.

py-spy (`--nonblocking`) does not stop the process and needs nothing of it, not even the interpreter's lock; it needs
the right to read its memory (same user; Yama may demand more). Where that fails the process is sent
`run_dir.STACK_SIGNAL`, but only if it catches it, for an uncaught signal kills.

The text of a stack has one line a frame, innermost first. Equal text is an equal stack, on any rank.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from ryzen_agent import procfs
from ryzen_protos import run_dir

FRAMES_MAX = 60
TEXT_CHARS = 4000
LINE_CHARS = 190
ANSWER_BYTES = 4 << 20
"""Of py-spy: a process with a thousand threads has some 2 MiB."""

DUMP_BYTES = 64 << 10
"""Of the file that faulthandler writes to, before it is emptied."""

_SIGNAL_WAIT_S, _SIGNAL_LOOK_S = 0.5, 0.01
_AUTOGRAD = "pt_autograd"
_LINE = re.compile(r'\s+File "([^"]*)", line (\d+) in (.*)')


@dataclass(frozen=True, slots=True)
class Frame:
    """One call. `file` is as long as it helps, see `shortened`."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return _printable(f"{self.function} ({self.file}:{self.line})")[:LINE_CHARS]


@dataclass(frozen=True, slots=True)
class Stack:
    """Of the main thread, innermost frame first. `others` differs when that of any other Python thread does.

    `holds_lock`: the thread held the interpreter's lock at that moment; False also where that cannot be told.
    """

    frames: tuple[Frame, ...]
    others: int = 0
    holds_lock: bool = field(default=False, compare=False)

    @property
    def text(self) -> str:
        return "\n".join(str(each) for each in self.frames)[:TEXT_CHARS]

    @property
    def id(self) -> int:
        """64 bits that stand for the text; never 0."""
        return _hash(self.text) or 1


def find_py_spy() -> str | None:
    """Beside the interpreter, as pip puts it, else on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


async def by_py_spy(program: str, pid: int) -> Stack | None:
    """None where py-spy cannot read this process. Cancelled, it leaves nothing behind.

    Started by `subprocess`, which uses vfork: the loop's own way forks, then gRPC's fork handlers run in the child, and
    a sixth of the children died of that before they were py-spy (measured, uvloop 0.23 and grpcio 1.85).
    """
    process = _py_spy(program, pid)
    if process is None:
        return None
    try:
        answer = await asyncio.to_thread(_answer_of, process)
    finally:
        process.kill()  # of one that is waited for already this does nothing
    return parse_py_spy(answer, pid) if answer is not None else None


def _py_spy(program: str, pid: int) -> subprocess.Popen[bytes] | None:
    command = [program, "dump", "--pid", str(pid), "--json", "--nonblocking"]
    null = subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)
    except OSError:
        return None


def _answer_of(process: subprocess.Popen[bytes]) -> bytes | None:
    """What it writes until its end, None where that is too long or it fails."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    with process.stdout as pipe:
        answer = pipe.read(ANSWER_BYTES + 1)
    if len(answer) > ANSWER_BYTES:
        process.kill()
    return answer if process.wait() == 0 else None


def parse_py_spy(text: bytes, pid: int) -> Stack | None:
    """`py-spy dump --json`. None where it does not show the main thread.

    On a GPU autograd runs hooks in a thread of its own while the main thread waits in `backward`: those frames are
    where the rank is, so they come first.
    """
    try:
        listed = json.loads(text)
        threads = {int(each["os_thread_id"] or 0): _frames(each["frames"]) for each in listed}
        holders = {each["os_thread_id"] for each in listed if each.get("owns_gil") is True}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    main = threads.pop(pid, None)
    if not main:
        return None
    if "_engine_run_backward" in main[0].function:
        for thread in sorted(threads):
            if _thread_name(pid, thread).startswith(_AUTOGRAD):
                main = threads[thread] + main
    others = "\n".join(str(frame) for thread in sorted(threads) for frame in threads[thread])
    return Stack(main[:FRAMES_MAX], _hash(others), pid in holders)


def parse_faulthandler(text: str) -> Stack | None:
    """The last dump in what faulthandler wrote: `  File "a.py", line 3 in f`, innermost first."""
    frames: list[Frame] = []
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            frames.append(Frame(found[3], shortened(found[1]), int(found[2])))
        elif line.strip() and not line.startswith("  "):
            frames.clear()  # the head of a dump
    return Stack(tuple(frames[:FRAMES_MAX])) if frames else None


async def by_signal(pid: int, start_ticks: int, uid: int, path: Path) -> Stack | None:
    """Ask the process itself. None where it does not listen for that, or does not answer."""
    descriptor = _open_dump(path, uid)
    if descriptor < 0:
        return None
    try:
        if os.fstat(descriptor).st_size > DUMP_BYTES:
            os.ftruncate(descriptor, 0)
        before = os.fstat(descriptor).st_size
        if not _ask(pid, start_ticks, uid):
            return None
        size = before
        for _ in range(int(_SIGNAL_WAIT_S / _SIGNAL_LOOK_S)):
            await asyncio.sleep(_SIGNAL_LOOK_S)
            last, size = size, os.fstat(descriptor).st_size
            if size > before and size == last:
                break
        return parse_faulthandler(os.pread(descriptor, DUMP_BYTES, before).decode(errors="replace"))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def catches(text: bytes, number: int) -> bool:
    """/proc/PID/status: whether the process has a handler for a signal."""
    for line in text.splitlines():
        key, _, mask = line.partition(b":")
        if key == b"SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False


def shortened(path: str) -> str:
    """From the package on for what is installed, else the last three components."""
    for mark in ("site-packages/", "dist-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    if found := re.search(r"/lib/python3[.\d]*/(.+)", path):
        return found[1]
    if "/torch/" in path:  # built from source
        return "torch/" + path.partition("/torch/")[2]
    return "/".join(path.rsplit("/", 3)[-3:])


def _ask(pid: int, start_ticks: int, uid: int) -> bool:
    """The same checks as before a kill, and that the signal will not be one."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
        if not procfs.is_alive(pid, start_ticks) or procfs.owner_of(pid) != uid:
            return False
        if not catches(status, run_dir.STACK_SIGNAL):
            return False
        os.kill(pid, run_dir.STACK_SIGNAL)
    except OSError:
        return False
    return True


def _open_dump(path: Path, uid: int) -> int:
    """A descriptor of the user's own regular file; -1 where something else stands there."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
        return descriptor
    os.close(descriptor)
    return -1


def _frames(listed: object) -> tuple[Frame, ...]:
    if not isinstance(listed, list):
        raise TypeError("frames is no list")
    return tuple(
        Frame(str(each["name"])[:LINE_CHARS], shortened(str(each["filename"])), int(each["line"]))
        for each in listed[:FRAMES_MAX]
    )


def _thread_name(pid: int, thread: int) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread}/comm").read_text(errors="replace")
    except OSError:
        return ""


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")
