"""Jobs that were there before this agent, and jobs without our handler.

A restarted agent takes over from the records of its predecessor: a torchrun that lives is watched again, a
rank that lives is watched again, one that has died meanwhile is told with an unknown exit code. Beat pages of
living processes tell of ranks beside a torchrun with another rendezvous backend (c10d): those are watched, and
their membership is left alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ryzen_agent import procfs, record
from ryzen_agent.job import Hooks, Job
from ryzen_agent.ranks import FoundRank, RankIdentity
from ryzen_protos.beat_page import BeatPageError, BeatReader, Header


def restore(folder: Path, loop: asyncio.AbstractEventLoop, hooks: Hooks, jobs: dict[str, Job]) -> list[Job]:
    """Take over from the records. Returns the jobs whose torchrun lives: their handlers are about to reconnect."""
    awaited = []
    now_s = time.monotonic()
    for each in record.load_all(folder):
        job = Job(each.run_id, each.user, each.uid, folder, loop, hooks)
        living = job.watch_torchrun(each.torchrun_pid, each.torchrun_start_ticks)
        for rank in each.ranks:
            found = rank.found(each.run_id)
            if rank.exited or not procfs.is_alive(rank.pid, rank.start_ticks):
                job.add_dead(found, now_s, rank.exit_code, rank.killed)
            else:
                job.add(found, now_s)
        if not living:
            job.torchrun_pid, job.torchrun_ended_at_s = each.torchrun_pid, now_s
        if living or any(rank.alive for rank in job.ranks):
            jobs[each.run_id] = job
        else:
            job.close()
            record.remove(folder, each.run_id)
        if living:
            awaited.append(job)
    return awaited


def as_record(job: Job) -> record.JobRecord:
    ranks = tuple(
        record.RecordedRank(
            rank=each.identity.rank,
            local_rank=each.identity.local_rank,
            generation=each.identity.generation,
            pid=each.pid,
            start_ticks=each.start_ticks,
            exited=not each.alive,
            exit_code=each.exit_code,
            killed=each.killed,
        )
        for each in job.ranks
    )
    ticks = job.torchrun.start_ticks if job.torchrun is not None else 0
    return record.JobRecord(job.run_id, job.user, job.uid, job.torchrun_pid, ticks, ranks)


class Scout:
    """Looks for ranks that only their pages tell of. Jobs whose torchrun is watched need no such help."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - follows the link on purpose
        self._looked_at: dict[Path, tuple[int, int]] = {}

    def find(self, loop: asyncio.AbstractEventLoop, hooks: Hooks, jobs: dict[str, Job]) -> None:
        """Add ranks to `jobs`, making the job where there is none."""
        for path in self._pages(jobs):
            run_id = path.parent.name
            job = jobs.get(run_id)
            if (header := self._new_header(path)) is None:
                continue
            uid = procfs.owner_of(header.pid)
            if header.run_id != run_id or uid is None or not procfs.is_alive(header.pid, header.start_ticks):
                continue
            if job is None:
                job = jobs[run_id] = Job(run_id, procfs.user_name(uid), uid, self._folder, loop, hooks)
            identity = RankIdentity(run_id, header.generation, header.rank, header.local_rank)
            job.add(FoundRank(identity, header.pid, header.start_ticks), time.monotonic())

    def _pages(self, jobs: dict[str, Job]) -> Iterator[Path]:
        """Pages of jobs without a torchrun that is watched. Without any, one listing of a folder a second."""
        try:
            folders = list((self._folder / "jobs").iterdir())
        except OSError:
            return
        for folder in folders:
            job = jobs.get(folder.name)
            if job is None or job.torchrun is None:
                yield from folder.glob("rank-*.beat")

    def _new_header(self, path: Path) -> Header | None:
        """The header of a page that was not looked at before and may be believed."""
        try:
            status = path.lstat()
            mark = (status.st_ino, status.st_ctime_ns)
            if self._looked_at.get(path) == mark:
                return None
            self._looked_at[path] = mark
            reader = BeatReader(path)
        except (BeatPageError, OSError):
            return None
        header = reader.header
        reader.close()
        if header.pid_namespace != self._namespace or procfs.owner_of(header.pid) != status.st_uid:
            return None
        return header
