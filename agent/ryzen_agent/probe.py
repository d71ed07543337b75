"""What is known of one rank that may hang: looks at its stack, its vital signs and its flight recorder.

A look reads the vital signs, takes the stack, asks the recorder, and reads the vital signs again. What changed is
judged between two looks, from the end of one to the beginning of the next: the rank answers for itself in between,
and what our own asking does to it (a signal wakes it) does not count.

The rank is frozen since the look after which neither the main thread's stack nor that of another Python thread has
changed, and nothing has moved. One that uses the CPU meanwhile is frozen only if it holds the interpreter's lock at
every look: a loop that computes on one line of Python shows the same line each time, but torch lets go of the lock
while it computes. A look without a stack says nothing either way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ryzen_agent import recorder, stacks, vitals, waiting
from ryzen_agent.recorder import Entry
from ryzen_agent.stacks import Stack
from ryzen_agent.vitals import Vitals

BUSY_CORES = 0.5
BUSY_SPAN_S = 0.05
"""Least time over which CPU use is judged: it is counted in ticks of 10 ms."""

MISSES_MAX = 2
"""After so many failures in a row py-spy is not asked again if the signal works."""


@dataclass(frozen=True, slots=True)
class Target:
    """One process. `socket`: of its worker server, None where its path would be too long."""

    pid: int
    start_ticks: int
    uid: int
    socket: Path | None
    stack_file: Path
    groups_file: Path


class Probe:
    """Times in seconds of CLOCK_MONOTONIC."""

    def __init__(self, target: Target, py_spy: str | None) -> None:
        self.target = target
        self.samples = 0
        self.sampled_at_s = 0.0
        self.stack: Stack | None = None
        self.busy = False
        self.in_collective = False
        self.wait_channel = ""
        self.entries: list[Entry] | None = None
        """Of the newest look; None where the recorder did not answer."""
        self.groups: dict[str, tuple[int, ...]] = {}
        self._py_spy = py_spy
        self._py_spy_misses = 0
        self._vitals: Vitals | None = None  # at the end of the newest look
        self._vitals_at_s = 0.0
        self._same_since_s = 0.0
        self._same_until_s = 0.0

    @property
    def frozen_s(self) -> float:
        """For how long all looks have shown the same, as far as has been looked."""
        return self._same_until_s - self._same_since_s

    async def look(self) -> None:
        """One look. Raises ProcessLookupError where the process has ended; anything else that fails is left unknown."""
        began_s = time.monotonic()
        before = _vitals_of(self.target.pid)
        entries = await self._ask_recorder()
        stack = await self._take_stack()
        after = _vitals_of(self.target.pid)
        ended_s = time.monotonic()
        self.entries = entries
        self._judge_busy(before, after, began_s, ended_s)
        if stack is not None:
            self.in_collective = waiting.in_collective(stack.frames, any(not each.done for each in entries or ()))
        self._judge_frozen(stack, before, began_s)
        self._vitals, self._vitals_at_s = after, ended_s
        if after is not None:
            self.wait_channel = after.wait_channel
        if stack is not None:
            self.stack = stack
        self.samples += 1
        self.sampled_at_s = ended_s

    async def _take_stack(self) -> Stack | None:
        target = self.target
        if self._py_spy is not None and self._py_spy_misses < MISSES_MAX:
            for _attempt in range(2):  # one that runs may have changed its stack while it was read
                stack = await stacks.by_py_spy(self._py_spy, target.pid)
                if stack is not None:
                    self._py_spy_misses = 0
                    return stack
        stack = await stacks.by_signal(target.pid, target.start_ticks, target.uid, target.stack_file)
        if stack is not None:
            self._py_spy_misses += 1
        return stack

    async def _ask_recorder(self) -> list[Entry] | None:
        target = self.target
        if target.socket is None:
            return None
        entries = await recorder.read_trace(target.socket, target.pid, target.uid)
        self.groups = recorder.read_groups(target.groups_file, target.uid)
        return entries

    def _judge_busy(self, before: Vitals | None, after: Vitals | None, began_s: float, ended_s: float) -> None:
        """Since the look before; within the first look where it took long enough to tell."""
        start, since_s = (before, began_s) if self._vitals is None else (self._vitals, self._vitals_at_s)
        if start is not None and after is not None and ended_s - since_s >= BUSY_SPAN_S:
            self.busy = vitals.cpu_share(start, after, ended_s - since_s) > BUSY_CORES

    def _judge_frozen(self, stack: Stack | None, now: Vitals | None, at_s: float) -> None:
        if now is None:
            return
        if stack is None:  # no word on the stack; but what moves meanwhile must not be forgotten
            if self._vitals is not None and vitals.moved(self._vitals, now):
                self.stack = None
            return
        still = stack.holds_lock or not self.busy or self.in_collective  # NCCL waits by spinning, too
        same = self._vitals is not None and self.stack == stack and still
        if not same or vitals.moved(self._vitals or now, now, waiting.polls(stack.frames)):
            self._same_since_s = at_s
        self._same_until_s = at_s


def _vitals_of(pid: int) -> Vitals | None:
    """None where they may not be read. Raises ProcessLookupError."""
    try:
        return vitals.read(pid)
    except ProcessLookupError:
        raise
    except (OSError, ValueError, KeyError, IndexError):
        return None


def groups_of(probes: Sequence[Probe]) -> dict[str, tuple[int, ...]]:
    """What any of them knows: each rank knows the groups that it belongs to."""
    known: dict[str, tuple[int, ...]] = {}
    for each in probes:
        known |= each.groups
    return known
