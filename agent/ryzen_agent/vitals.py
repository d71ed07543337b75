"""Signs of life of one rank and of the processes below it, from /proc: what changes while a process does anything.

    of the rank's process   bytes read and written by any of its threads (a save may run in a pool of threads)
    of its main thread      voluntary context switches, page faults
    of its other threads    context switches and CPU time, but for those of torch, NCCL and CUDA
    of each process below   bytes read and written, page faults, CPU time, many context switches

CPU time of the main thread itself is no sign of life: code that spins for ever uses it too. Nor is anything of the
threads that libraries keep: NCCL's watchdog wakes up by itself. A thread of the script's own may do the work that the
main thread waits for: a download, whose bytes /proc does not count, or an evaluation in a pool. Processes below the
rank (data loader workers, an evaluation that the script waits for) are seen from outside only: CPU time has to do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ryzen_agent import procfs

MINOR_FAULTS = 8
"""Fewer between two looks are no sign: the kernel's NUMA balancing takes pages away from a thread that spins, a few a
second, and it faults them back in."""

CHILD_CPU_TICKS = 2
"""CPU time of a child between two looks, in ticks of 10 ms. An idle data loader worker polls every 5 s for 0.1 ms."""

POLL_SWITCHES = 3
"""Context switches between two looks that a poll loop alone does not make. Data loader workers, and a main process
that waits for them, wake every 5 s (MP_STATUS_CHECK_INTERVAL of torch.utils.data) though nothing happens."""

THREADS_CPU_TICKS = 5
"""CPU time of the other threads between two looks, in ticks of 10 ms."""

_LIBRARY_THREADS = (b"pt_", b"cuda", b"nccl", b"NCCL", b"gloo", b"iou-")
"""How the names of threads begin that a library keeps for itself. Python's own carry the program's name."""

DESCENDANTS_MAX, THREADS_MAX = 256, 1024

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one process; all but `cpu_ticks` and `io_bytes` are the main thread's. All grow only.

    `ready_ns`: on a CPU or waiting for one, which on a crowded node is the same.
    """

    io_bytes: int
    minor_faults: int
    major_faults: int
    switches: int
    cpu_ticks: int
    ready_ns: int = 0


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look. `wait_channel`: where in the kernel the main thread waits, "" where it runs or that is secret."""

    own: Counters
    below: dict[int, Counters] = field(default_factory=dict)
    wait_channel: str = ""
    threads: dict[int, tuple[int, int]] = field(default_factory=dict)  # switches, CPU ticks


def moved(before: Vitals, after: Vitals, polls: bool = False) -> bool:
    """Whether anything shows that the rank did something in between. `polls`: its main thread is in a poll loop whose
    wake-ups prove nothing."""
    return (
        before.below.keys() != after.below.keys()
        or _moved(before.own, after.own, POLL_SWITCHES if polls else 1)
        or _threads_moved(before.threads, after.threads)
        or any(_child_moved(each, after.below[pid]) for pid, each in before.below.items())
    )


def cpu_share(before: Vitals, after: Vitals, seconds: float) -> float:
    """Cores that the rank's process used in between, or that its main thread would have used."""
    used_s = (after.own.cpu_ticks - before.own.cpu_ticks) / _TICKS_A_SECOND
    ready_s = (after.own.ready_ns - before.own.ready_ns) / 1e9
    return max(used_s, ready_s) / seconds if seconds > 0 else 0.0


def read(pid: int) -> Vitals:
    """Raises ProcessLookupError where there is no such process, PermissionError where it is not ours to look into."""
    below: dict[int, Counters] = {}
    for child in _descendants(pid):
        try:
            below[child] = _counters(child)
        except (OSError, ValueError):
            continue  # it has ended meanwhile, or runs as somebody else
    try:
        channel = Path(f"/proc/{pid}/wchan").read_text(errors="replace").strip()
    except OSError:
        channel = ""
    return Vitals(_counters(pid), below, "" if channel == "0" else channel, _threads(pid))


def parse_io(text: bytes) -> int:
    """/proc/PID/io: bytes that went through read and write calls; those of send and recv are not counted."""
    values = dict(line.split(b": ") for line in text.splitlines())
    return int(values[b"rchar"]) + int(values[b"wchar"])


def parse_switches(text: bytes) -> int:
    """/proc/PID/status: voluntary context switches of the main thread."""
    for line in text.splitlines():
        if line.startswith(b"voluntary_ctxt_switches:"):
            return int(line.partition(b":")[2])
    raise ValueError("no voluntary_ctxt_switches")


def parse_faults(text: bytes) -> tuple[int, int]:
    """A stat line: minor and major page faults."""
    fields = text.rpartition(b")")[2].split()
    return int(fields[7]), int(fields[9])


def parse_cpu_ticks(text: bytes) -> int:
    """A stat line: user and system time in ticks."""
    fields = text.rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def parse_schedstat(text: bytes) -> int:
    """/proc/PID/task/TID/schedstat: nanoseconds on a CPU and in the queue for one."""
    running, queued, *_ = text.split()
    return int(running) + int(queued)


def _moved(before: Counters, after: Counters, switches: int) -> bool:
    return (
        after.io_bytes != before.io_bytes
        or after.major_faults != before.major_faults
        or after.minor_faults - before.minor_faults >= MINOR_FAULTS
        or after.switches - before.switches >= switches
    )


def _threads_moved(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]) -> bool:
    both = before.keys() & after.keys()
    ticks = sum(after[thread][1] - before[thread][1] for thread in both)
    return ticks >= THREADS_CPU_TICKS or any(after[thread][0] != before[thread][0] for thread in both)


def _threads(pid: int) -> dict[int, tuple[int, int]]:
    """Of every thread but the main one and those that a library keeps for itself."""
    found = {}
    try:
        tasks = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()][:THREADS_MAX]
    except OSError:
        return {}
    for task in tasks:
        folder = Path(f"/proc/{pid}/task/{task}")
        try:
            if task != pid and not (folder / "comm").read_bytes().startswith(_LIBRARY_THREADS):
                switches = parse_switches((folder / "status").read_bytes())
                found[task] = switches, parse_cpu_ticks((folder / "stat").read_bytes())
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return found


def _child_moved(before: Counters, after: Counters) -> bool:
    return _moved(before, after, POLL_SWITCHES) or after.cpu_ticks - before.cpu_ticks >= CHILD_CPU_TICKS


def _counters(pid: int) -> Counters:
    process = Path(f"/proc/{pid}")
    try:
        minor, major = parse_faults((process / f"task/{pid}/stat").read_bytes())
        return Counters(
            io_bytes=parse_io((process / "io").read_bytes()),
            minor_faults=minor,
            major_faults=major,
            switches=parse_switches((process / "status").read_bytes()),
            cpu_ticks=parse_cpu_ticks((process / "stat").read_bytes()),
            ready_ns=_ready_ns(process / f"task/{pid}/schedstat"),
        )
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def _ready_ns(path: Path) -> int:
    """0 on a kernel that keeps no such account."""
    try:
        return parse_schedstat(path.read_bytes())
    except (OSError, ValueError):
        return 0


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    wanted = [pid]
    while wanted and len(found) < DESCENDANTS_MAX:
        children = procfs.children_of(wanted.pop())
        found += children
        wanted += children
    return found[:DESCENDANTS_MAX]
