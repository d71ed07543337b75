"""Jobs that were there before this agent, and jobs without our handler.

A restarted agent takes over from the records of its predecessor: a torchrun that lives is watched again, a
rank that lives is watched again, one that has died meanwhile is told with an unknown exit code. Beat pages of
living processes tell of ranks beside a torchrun with another rendezvous backend (c10d): those are watched, and
their membership is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from ryzen_agent import procfs, record
from ryzen_agent.job import Hooks, Job
from ryzen_agent.places import Place
from ryzen_agent.ranks import FoundRank, RankIdentity
from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatPageError, BeatReader, Header


def restored(each: record.JobRecord, loop: asyncio.AbstractEventLoop, hooks: Hooks) -> Job | None:
    """The job of a record as it is now; None where nothing of it lives."""
    now_s = time.monotonic()
    job = Job(each.run_id, each.user, each.uid, Path(each.folder), loop, hooks)
    if not job.watch_torchrun(each.torchrun_pid, each.torchrun_start_ticks):
        job.torchrun_pid = each.torchrun_pid
        if each.torchrun_pid:
            job.torchrun_ended_at_s = now_s
    for rank in each.ranks:
        found = rank.found(each.run_id)
        if rank.exited or not procfs.is_alive(rank.pid, rank.start_ticks):
            job.add_dead(found, now_s, rank.exit_code, rank.killed)
        else:
            job.add(found, now_s)
    if job.torchrun is not None or any(rank.alive for rank in job.ranks):
        return job
    job.close()
    return None


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
    return record.JobRecord(job.run_id, job.user, job.uid, str(job.folder), job.torchrun_pid, ticks, ranks)


class Scout:
    """Looks for ranks that only their pages tell of, in one run directory."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._namespace = Path("/proc/self/ns/pid").stat().st_ino
        self._looked_at: dict[Path, tuple[int, int]] = {}

    def find(self, watched: set[str]) -> Iterator[FoundRank]:
        """Living ranks of jobs whose torchrun is not watched, each page once. Usually one listing of one folder."""
        try:
            folders = [each for each in (self._place.path / "jobs").iterdir() if _is_job(each.name, watched)]
        except OSError:
            return
        for folder in folders:
            for path in folder.glob("rank-*.beat"):
                header = self._new_header(path)
                if header is not None and header.run_id == folder.name:
                    identity = RankIdentity(header.run_id, header.generation, header.rank, header.local_rank)
                    if identity.is_possible():
                        yield FoundRank(identity, header.pid, header.start_ticks)

    def _new_header(self, path: Path) -> Header | None:
        """The header of a page that was not looked at before and that its living, rightful owner writes."""
        try:
            status = path.lstat()
            mark = (status.st_ino, status.st_ctime_ns)
            if self._looked_at.get(path) == mark:
                return None
            self._looked_at[path] = mark
            reader = BeatReader(path, self._place.uid)
        except (BeatPageError, OSError):
            return None
        header = reader.header
        reader.close()
        is_ours = header.pid_namespace == self._namespace and procfs.owner_of(header.pid) == self._place.uid
        return header if is_ours and procfs.is_alive(header.pid, header.start_ticks) else None


def _is_job(name: str, watched: set[str]) -> bool:
    try:
        return run_dir.check_name("run id", name) not in watched
    except run_dir.RunDirError:
        return False
