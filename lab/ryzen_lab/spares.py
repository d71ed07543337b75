"""When a spare node is ready to take a place.

Ryzen's coordinator says it: the spare is parked; one whose ranks are forked has what they are forked from, too. Of any
other launcher it is seen from outside: it has used the CPU time that an import of torch takes, and then come to rest
but for its polling.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from ryzen_lab.coordinator_watch import status
from ryzen_lab.errors import NeverHappened
from ryzen_lab.record import cpu_s

READY_S_MAX = 30.0
WARM_S_MAX = 120.0
_STATUS_POLL_S = 0.1
_WINDOW_S = 1.0
_IMPORT_CPU_S = 0.8
_REST_CPU_S = 0.1
"""In a window. A torchrun that waits in the rendezvous takes a hundredth."""


async def wait_until_parked(address: str, count: int) -> None:
    """Raises NeverHappened."""
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        answer = await status(address)
        if answer and any(len(job.parked) >= count for job in answer.jobs):
            return
        await asyncio.sleep(_STATUS_POLL_S)
    raise NeverHappened("the spares to be parked", READY_S_MAX)


async def wait_until_warm(run_dirs: Sequence[Path]) -> None:
    """Until each of these nodes has a nursery that has imported. Raises NeverHappened."""
    deadline = time.monotonic() + WARM_S_MAX
    while time.monotonic() < deadline:
        if all(any(each.glob("jobs/*/nursery-*.json")) for each in run_dirs):
            return
        await asyncio.sleep(_STATUS_POLL_S)
    raise NeverHappened("the spares to have a nursery", WARM_S_MAX)


async def wait_until_at_rest(pids: Sequence[int]) -> None:
    """Raises NeverHappened, at once where one has ended."""
    deadline = time.monotonic() + READY_S_MAX
    try:
        before = [cpu_s(pid) for pid in pids]
        while time.monotonic() < deadline:
            await asyncio.sleep(_WINDOW_S)
            now = [cpu_s(pid) for pid in pids]
            if all(is_at_rest(begin, end) for begin, end in zip(before, now, strict=True)):
                return
            before = now
    except ProcessLookupError as error:
        raise NeverHappened("the spares to come to rest", READY_S_MAX, str(error)) from None
    raise NeverHappened("the spares to come to rest", READY_S_MAX)


def is_at_rest(before_s: float, now_s: float) -> bool:
    """Of the CPU seconds at the begin and the end of a window."""
    return now_s >= _IMPORT_CPU_S and now_s - before_s <= _REST_CPU_S
