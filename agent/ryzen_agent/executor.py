"""Kills exactly what was decided, after checking who it is.

SIGKILL to the whole process group where the rank leads one (torchrun gives each rank its own), so that data
loader workers go with it; of a forked rank to its own group, and its stub follows it. Before each signal: the pid
still names the process that was watched (start time) and it belongs to the job's user. A beat page alone can never
make the agent signal anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

from ryzen_agent import procfs
from ryzen_agent.job import Job
from ryzen_agent.leftovers import Leftover
from ryzen_agent.process import Process
from ryzen_agent.rank import Rank

STUB_S = 1.0
"""After the end of a forked rank its stub needs milliseconds. Too low: a stub is killed before it has told the code."""

log = logging.getLogger(__name__)


def kill(job: Job, kills: dict[int, str]) -> list[Rank]:
    """Send the signals. Returns the ranks that were hit for the first time."""
    hit = []
    for rank in job.ranks:
        if not rank.alive or rank.pid not in kills:
            continue
        # One that is dying by another hand is signalled for its children's sake, but its end is not our doing: blame
        # passes over those that we killed, and this one may be the culprit.
        inner = rank.inner
        dying = procfs.is_dying(rank.pid) or (inner is not None and (inner.exited or procfs.is_dying(inner.pid)))
        if _kill_one(job, rank) and not rank.killed and not dying:
            rank.killed = True
            hit.append(rank)
            log.info("rank %d (pid %d) killed: %s", rank.identity.rank, rank.pid, kills[rank.pid])
    for leftover in job.leftovers:
        if leftover.pid in kills and _kill_leftover(job, leftover):
            log.info("process %d, left behind by a dead rank, killed: %s", leftover.pid, kills[leftover.pid])
    return hit


def _kill_leftover(job: Job, leftover: Leftover) -> bool:
    if not procfs.is_alive(leftover.pid, leftover.start_ticks) or procfs.owner_of(leftover.pid) != job.uid:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(leftover.pid, signal.SIGKILL)
        return True
    return False


def _kill_one(job: Job, rank: Rank) -> bool:
    if rank.process is None:
        return False
    inner = rank.inner
    if inner is None or inner.group != inner.pid:
        return _signal(job, rank, rank.process)
    # Its stub ends as it ended and when it is really gone, so that torchrun starts no other beside a dying one that
    # still holds the GPU; but not a stub that is stopped, or that nobody tells.
    ended_s = 0.0 if rank.inner_ended_at_s is None else time.monotonic() - rank.inner_ended_at_s
    hit = not inner.exited and _signal(job, rank, inner)
    if ended_s > STUB_S or rank.process.state() in procfs.STOPPED_STATES:
        hit |= _signal(job, rank, rank.process)
    return hit


def _signal(job: Job, rank: Rank, process: Process) -> bool:
    if not process.is_same() or procfs.owner_of(process.pid) != job.uid:
        return False
    try:
        if process.group == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        log.warning("rank %d (pid %d) cannot be killed: not permitted", rank.identity.rank, process.pid)
        return False
    return True
