"""What each rank read first, from its page: told after its first step, so that two who read the same are named then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ryzen_agent.job import Job
from ryzen_protos import beat_batch
from ryzen_protos.beat_batch import FirstBatch
from ryzen_protos.v1 import node_pb2

LAST_STEP = 2
"""A rank that has done so many and has said nothing of a batch says nothing any more."""


class _Known(NamedTuple):
    """Of one job's newest generation: by rank what it read first, None for one that does not say."""

    generation: int
    of_rank: dict[int, FirstBatch | None]


class BatchNews:
    """Which of them one stream has been told of."""

    def __init__(self) -> None:
        self._told: dict[Job, _Known] = {}

    def take(self, jobs: Iterable[Job]) -> dict[Job, node_pb2.FirstBatches]:
        """Those of a job, all that are known, where there is one that has not been told."""
        due = {}
        told = {}
        for job in jobs:
            known = self._told.get(job)
            if known is None or known.generation != job.generation:
                known = _Known(job.generation, {})
            told[job] = known
            if _look(job, known):
                due[job] = _message(known)
        self._told = told
        return due


def _look(job: Job, known: _Known) -> bool:
    """Whether there is a new one."""
    found = False
    for rank in job.newest():
        number, page = rank.identity.rank, rank.page
        if number in known.of_rank or page is None or page.progress is None:
            continue
        batch = beat_batch.unpack(page.reader.region(beat_batch.AT, beat_batch.BYTES))
        if batch is not None or page.progress.steps_done >= LAST_STEP:
            known.of_rank[number] = batch
            found = found or batch is not None
    return found


def _message(known: _Known) -> node_pb2.FirstBatches:
    batches = {rank: batch for rank, batch in known.of_rank.items() if batch is not None}
    return node_pb2.FirstBatches(
        generation=known.generation,
        ranks=list(batches),
        digests=[each.digest for each in batches.values()],
        places=[each.place for each in batches.values()],
    )
