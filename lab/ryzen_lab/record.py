"""What the lab saw, on one clock: CLOCK_MONOTONIC nanoseconds of this machine.

Facts only; what they mean is `measure.py`'s. All processes of a lab share the machine and so the clock: steps are
stamped by the hook inside the rank, deaths when the kernel signals a pidfd, messages of the coordinator on arrival.
The time of an exec is the kernel's and counts in ticks of 10 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ryzen_protos.v1 import operator_pb2

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""Resolution of the time at which a process was started (proc(5), field 22 of stat)."""


@dataclass(slots=True)
class Rank:
    """One process of the training job."""

    pid: int
    node: str
    rank: int
    local_rank: int
    generation: int
    world_size: int
    exec_ns: int
    torch_ns: int | None = None  # the optimizer module is loaded
    restored_ns: int | None = None  # last optimizer state loaded before the first step
    struck_ns: int | None = None  # a fault that the lab ordered has begun
    struck_where: str = ""
    resumed_ns: int | None = None  # what was ordered, and was innocent, is over
    steps: list[tuple[int, int]] = field(default_factory=list)  # when, which (absolute, 1 is the first)
    step_source: str = ""  # optimizer, ryzen_trainer or count
    died_ns: int | None = None
    exit_code: int | None = None  # negative: a signal; None also where torchrun reaped it too soon to be read
    finished: bool = False  # the interpreter ended without an uncaught exception
    digest: str | None = None
    sharded: bool = False

    @property
    def last_step(self) -> int:
        return self.steps[-1][1] if self.steps else 0


@dataclass(slots=True)
class Service:
    """A coordinator, agent or torchrun."""

    what: str
    node: str
    pid: int
    started_ns: int
    died_ns: int | None = None
    exit_code: int | None = None
    ended_by_lab: bool = False  # at the end, on purpose


@dataclass(slots=True)
class Injection:
    """One fault as it was done. `pids`: every process that it struck."""

    kind: str
    at_ns: int
    at_step: int
    interrupts: bool
    rank: int | None = None
    node: str | None = None
    pids: list[int] = field(default_factory=list)
    where: str = ""  # the place in the script, where there is one


@dataclass(slots=True)
class Record:
    ranks: list[Rank] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    incidents: list[tuple[int, operator_pb2.Incident]] = field(default_factory=list)  # when it came, whole each time
    injections: list[Injection] = field(default_factory=list)
    returns: list[tuple[int, str, str]] = field(default_factory=list)  # when, what, node

    def alive(self) -> list[Rank]:
        return [each for each in self.ranks if each.died_ns is None]

    def current(self) -> dict[int, Rank]:
        """Living ranks by rank; of two with one rank the younger."""
        return {each.rank: each for each in sorted(self.alive(), key=lambda each: each.exec_ns)}

    def step(self) -> int:
        """The highest optimizer step that any rank has completed."""
        return max((each.last_step for each in self.ranks), default=0)


Listener = Callable[[str, object], None]
"""Called with the kind of each event (born, torch, restored, step, fault, resumed, finished, died, service, incident,
injected, returned) and its object, right after it was recorded."""


def exec_time_ns(pid: int) -> int:
    """When a process was started, on CLOCK_MONOTONIC, to 10 ms. Raises ProcessLookupError."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    ticks = int(text.rpartition(")")[2].split()[19])
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return int(ticks * TICK_S * 1e9) - asleep_ns


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, in ticks of 10 ms. Raises ProcessLookupError."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return (int(fields[11]) + int(fields[12])) * TICK_S


def exit_code_of_zombie(pid: int) -> int | None:
    """Exit code from field 52 of /proc/PID/stat, as subprocess has it; None once the parent has reaped it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] not in "ZX":
        return None
    status = int(fields[49])
    return -(status & 0x7F) if status & 0x7F else status >> 8
