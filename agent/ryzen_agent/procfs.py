"""Parsers of /proc. Each takes bytes; the few functions at the end read a process's files.

A process is named by (pid, start ticks): field 22 of its stat file, as pids are used again (proc_pid_stat(5)).
"""

from __future__ import annotations

import os
import pwd
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STOPPED_STATES = frozenset("Tt")
HALTED_STATES = frozenset("TtZX")
"""States in which a process cannot make progress: stopped, traced, zombie, dead."""


_PF_EXITING = 0x4  # include/linux/sched.h
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that matter here. `wait_status` is 0 for a living process.

    `exiting`: its main thread is on its way out (PF_EXITING), though it is no zombie yet.
    """

    pid: int
    state: str
    parent: int
    group: int
    start_ticks: int
    wait_status: int
    exiting: bool = False


def parse_stat(text: bytes) -> Stat:
    """One line of /proc/PID/stat; the command name may hold anything, ')' and spaces included."""
    head, _, tail = text.rpartition(b")")
    fields = tail.split()
    return Stat(
        pid=int(head[: head.index(b"(")]),
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        start_ticks=int(fields[19]),
        wait_status=int(fields[49]) if len(fields) > 49 else 0,
        exiting=bool(int(fields[6]) & _PF_EXITING),
    )


def state_letter(text: bytes) -> str:
    """Only the state: what the eight-times-a-second scan needs of a stat line."""
    at = text.rindex(b")")
    return chr(text[at + 2])


def parse_environ(text: bytes) -> dict[str, str]:
    """/proc/PID/environ; entries without '=' (a process may overwrite the area) are left out."""
    pairs = (each.partition(b"=") for each in text.split(b"\0"))
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, equals, value in pairs if equals}


def parse_pids(text: bytes) -> list[int]:
    """/proc/PID/task/TID/children."""
    return [int(each) for each in text.split()]


def kill_pending(text: bytes) -> bool:
    """/proc/PID/status: somebody has sent SIGKILL and it has not been delivered to every thread yet."""
    for line in text.splitlines():
        key, _, mask = line.partition(b":")
        if key in {b"SigPnd", b"ShdPnd"} and int(mask, 16) & _SIGKILL_BIT:
            return True
    return False


def read_stat(pid: int) -> Stat:
    """Raises ProcessLookupError where there is no such process."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_bytes())
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether this very process runs; a zombie does not."""
    try:
        stat = read_stat(pid)
    except ProcessLookupError:
        return False
    return stat.start_ticks == start_ticks and stat.state not in "ZX"


def is_dying(pid: int) -> bool:
    """Whether the process is on its way out already: gone, a zombie, exiting, or under somebody's SIGKILL.

    A process with threads and gigabytes takes milliseconds from the signal to the zombie, and closes its sockets in
    between: its peers' errors may arrive before its own end does.
    """
    try:
        stat = read_stat(pid)
        return stat.exiting or stat.state in "ZX" or kill_pending((PROC / str(pid) / "status").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return True


def read_environ(pid: int) -> dict[str, str]:
    """Empty where the process is gone or not ours to look into."""
    try:
        return parse_environ((PROC / str(pid) / "environ").read_bytes())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}


def children_of(pid: int) -> list[int]:
    """Children of every thread of `pid`. Empty where it is gone. Needs CONFIG_PROC_CHILDREN (all distributions)."""
    try:
        tasks = [each.path for each in os.scandir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for task in tasks for child in parse_pids(read_file(f"{task}/children"))]


def read_file(path: str | Path) -> bytes:
    """Empty where there is none any more. Without the seeks and the look at the size that `Path.read_bytes` begins
    with: for what is read every second."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return b"".join(iter(lambda: os.read(descriptor, 4096), b""))  # the kernel gives a page at a time
    except ProcessLookupError:
        return b""
    finally:
        os.close(descriptor)


def descends(pid: int, ancestor: int, generations: int = 4) -> bool:
    """Whether `ancestor` is among the next `generations` parents of `pid`."""
    try:
        for _ in range(generations):
            pid = read_stat(pid).parent
            if pid == ancestor:
                return True
    except ProcessLookupError:
        pass
    return False


def owner_of(pid: int) -> int | None:
    """Uid that the process runs under; None where it is gone."""
    try:
        return (PROC / str(pid)).stat().st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None


def user_name(uid: int) -> str:
    """The name of a user, the number where the node does not know one (containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
