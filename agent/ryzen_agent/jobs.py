"""The table of all jobs on this node: who comes in, who is remembered, who is forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from ryzen_agent import adoption, procfs, record
from ryzen_agent.errors import HandlerRefusedError
from ryzen_agent.job import Hooks, Job
from ryzen_agent.places import Place
from ryzen_protos import run_dir
from ryzen_protos.v1 import local_pb2

GONE_AFTER_S = 10.0
"""How long a job that is gone is still told of, counted while the coordinator listens."""

log = logging.getLogger(__name__)


class Jobs:
    """By user and run id."""

    def __init__(self, state_folder: Path, loop: asyncio.AbstractEventLoop, hooks: Hooks) -> None:
        self._state_folder = state_folder
        self._loop = loop
        self._hooks = hooks
        self._jobs: dict[tuple[int, str], Job] = {}
        self._scouts: dict[Path, adoption.Scout] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def restore(self) -> list[Job]:
        """Take over from the records. Returns the jobs whose torchrun lives: their handlers are about to reconnect."""
        awaited = []
        for each in record.load_all(self._state_folder):
            job = adoption.restored(each, self._loop, self._hooks)
            if job is None:
                record.remove(self._state_folder, each.uid, each.run_id)
                continue
            self._jobs[job.uid, job.run_id] = job
            if job.torchrun is not None:
                awaited.append(job)
        return awaited

    def meet(self, update: local_pb2.HandlerUpdate, place: Place) -> Job:
        """The job of a handler that has just connected. Raises HandlerRefusedError."""
        uid, pid = self._checked(update, place), update.torchrun_pid
        job = self._jobs.get((uid, update.run_id))
        if job is not None and job.torchrun_pid not in (0, pid):
            if job.torchrun is not None and job.torchrun_ended_at_s is None:
                raise HandlerRefusedError(
                    f"job {update.run_id} has a torchrun on this node already (pid {job.torchrun_pid}): "
                    "one torchrun a node, or another --rdzv-id"
                )
            self.forget(job)
            job = None
        if job is None:
            job = self._jobs[uid, update.run_id] = self._new_job(update.run_id, uid, place.path)
        if not job.watch_torchrun(pid, update.torchrun_start_ticks):
            job.degraded = (
                f"torchrun (pid {pid}) cannot be seen from here (another pid namespace?): its ranks are not watched"
            )
            log.warning("job %s: %s", job.run_id, job.degraded)
        self.save(job)
        return job

    def find_by_pages(self, place: Place) -> None:
        """Ranks that only their beat pages tell of."""
        if (scout := self._scouts.get(place.path)) is None:
            scout = self._scouts[place.path] = adoption.Scout(place)
        watched = {job.run_id for job in self if job.uid == place.uid and job.torchrun is not None}
        for found in scout.find(watched):
            run_id = found.identity.run_id
            job = self._jobs.get((place.uid, run_id))
            if job is None:
                job = self._jobs[place.uid, run_id] = self._new_job(run_id, place.uid, place.path)
            job.add(found, time.monotonic())

    def save(self, job: Job) -> None:
        """For the agent after this one. A job known by its pages alone is found by them again."""
        if job.handler is not None or job.torchrun is not None:
            record.save(self._state_folder, adoption.as_record(job))

    def forget(self, job: Job) -> None:
        job.close()
        self._jobs.pop((job.uid, job.run_id), None)
        record.remove(self._state_folder, job.uid, job.run_id)

    def forget_gone(self, now_s: float, told_since_s: float | None) -> None:
        """`told_since_s`: since when the coordinator listens, None where it does not."""
        for job in self:
            over_since_s = job.is_over()
            if over_since_s is None or told_since_s is None:
                continue
            if now_s - max(over_since_s, told_since_s) > GONE_AFTER_S:
                self.forget(job)

    def any_lives(self, now_s: float) -> bool:
        """Whether anything of any job lives, or has ended only a moment ago; the coordinator may be gone for ever."""
        ends = [job.is_over() for job in self]
        return any(end is None or now_s - end <= GONE_AFTER_S for end in ends)

    def _new_job(self, run_id: str, uid: int, folder: Path) -> Job:
        return Job(run_id, procfs.user_name(uid), uid, folder, self._loop, self._hooks)

    def _checked(self, update: local_pb2.HandlerUpdate, place: Place) -> int:
        """The user of the job. A user's socket speaks for that user's processes only."""
        try:
            run_dir.check_name("run id", update.run_id)
        except run_dir.RunDirError as error:
            raise HandlerRefusedError(str(error)) from None
        uid = procfs.owner_of(update.torchrun_pid)
        if uid not in (None, place.uid):
            raise HandlerRefusedError(
                f"torchrun (pid {update.torchrun_pid}) runs as {procfs.user_name(uid or 0)}, {place.path} belongs to "
                f"{procfs.user_name(place.uid)}: run both as one user"
            )
        return place.uid
