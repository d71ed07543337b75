"""Probes the ranks of those jobs for which the coordinator asks for evidence, once a second, all of them at once.

Beside the agent's looks, not within: whatever a rank does to its prober, pages are read and ranks are killed as
ever. A rank that does not answer within `DEADLINE_S` keeps what was known of it. The first results go out as soon
as all ranks have some, or after `FIRST_S` without the slow ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from ryzen_agent import stacks
from ryzen_agent.beats import END_SECTION
from ryzen_agent.job import Job
from ryzen_agent.probe import Probe, Target
from ryzen_agent.rank import Rank
from ryzen_protos import run_dir

EVERY_S = 1.0
DEADLINE_S = 2.0
FIRST_S = 0.3

log = logging.getLogger(__name__)


class Prober:
    """`changed` is called when there is something new to tell."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._py_spy = stacks.find_py_spy()
        self._jobs: dict[Job, asyncio.Task[None]] = {}

    def keep(self, wanted: Iterable[Job]) -> None:
        """Probe these jobs and no others. What was known of the others is forgotten."""
        jobs = set(wanted)
        for job in self._jobs.keys() - jobs:
            self._jobs.pop(job).cancel()
            for rank in job.ranks:
                rank.probe = None
            self._changed()
        for job in jobs - self._jobs.keys():
            self._jobs[job] = self._loop.create_task(self._probe(job))

    async def close(self) -> None:
        """Stop, and wait until nothing that was started runs any more."""
        tasks = list(self._jobs.values())
        self._jobs.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, job: Job) -> None:
        looks: dict[Rank, asyncio.Task[None]] = {}
        try:
            while True:
                due_s = self._loop.time() + EVERY_S
                for rank in job.newest():
                    if may_look(rank) and (rank not in looks or looks[rank].done()):
                        looks[rank] = self._loop.create_task(self._look(job, rank))
                looks = {rank: look for rank, look in looks.items() if rank.alive or not look.done()}
                if looks:
                    await asyncio.wait(looks.values(), timeout=FIRST_S)
                    self._changed()
                    await asyncio.wait(looks.values(), timeout=max(due_s - self._loop.time(), 0.0))
                await asyncio.sleep(max(due_s - self._loop.time(), 0.0))
        finally:
            for look in looks.values():
                look.cancel()
            await asyncio.gather(*looks.values(), return_exceptions=True)

    async def _look(self, job: Job, rank: Rank) -> None:
        target = _target(job, rank)
        if rank.probe is None or rank.probe.target != target:
            rank.probe = Probe(target, self._py_spy)
        began_s = self._loop.time()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await rank.probe.look()
        except TimeoutError:
            log.debug("rank %d (pid %d) was not probed within %g s", rank.identity.rank, target.pid, DEADLINE_S)
        except (OSError, ValueError) as error:
            log.debug("rank %d (pid %d) was not probed: %s", rank.identity.rank, target.pid, error)
        if self._loop.time() - began_s > FIRST_S:
            self._changed()


def may_look(rank: Rank) -> bool:
    """Not into one that has left its loop, or raised: its interpreter may be finalising, with nobody left to answer."""
    page = rank.page
    if not rank.alive or (page is not None and page.failure is not None):
        return False
    return page is None or page.progress is None or page.progress.section != END_SECTION


def _target(job: Job, rank: Rank) -> Target:
    """The process that writes the page, where torchrun's child is only a wrapper around it."""
    process = rank.inner if rank.inner is not None and not rank.inner.exited else rank
    local = rank.identity.local_rank
    socket = None
    with contextlib.suppress(run_dir.RunDirError):
        socket = run_dir.worker_socket(job.folder, job.run_id, local)
    stack_file = run_dir.stack_file(job.folder, job.run_id, local)
    groups_file = run_dir.groups_file(job.folder, job.run_id, local)
    return Target(process.pid, process.start_ticks, job.uid, socket, stack_file, groups_file)
