"""How the data are shared out over the ranks: who reads the same as another, and who has more to do. Advice only.

Two data-parallel ranks that read the same batch do the work of one: a sampler without the rank in it, mostly. It is
told as soon as the second of them is heard of, once a generation. Where the script says the number of each rank among
the data-parallel ones, those of one number may read the same; where it says nothing, `ryzen_trainer.first_batch` has
left out what could be meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ryzen_coordinator.core.events import BatchesSeen, PaceSeen
from ryzen_coordinator.core.state import Cluster, Job

PAIRS_MAX = 8
UNEVEN = 0.1
"""A rank whose steps have so much more than the median's: the others wait for it. Of fewer, batches of texts of unlike
length differ by chance."""


def note(cluster: Cluster, job: Job, told: BatchesSeen) -> None:
    """What a node's ranks read. Told again, as after a lost connection, it says nothing new."""
    if told.generation != job.table.generation:
        return
    if job.batches_of != told.generation:
        job.batches_of, job.batches, job.same_batches = told.generation, {}, []
    for rank, digest, place in zip(told.ranks, told.digests, told.places, strict=True):
        other, other_place = job.batches.setdefault(digest, (rank, place))
        pair, rightly = (other, rank), place and place == other_place
        if other == rank or rightly or pair in job.same_batches:
            continue
        if len(job.same_batches) < PAIRS_MAX:
            job.same_batches.append(pair)
            cluster.say("warning", f"{job.run_id}: {_same(other, rank)}", job=job.run_id)


def words(job: Job) -> Iterator[str]:
    """Of the running generation."""
    if job.batches_of == job.table.generation:
        yield from (_same(*pair) for pair in job.same_batches)


def uneven(told: Sequence[PaceSeen]) -> Iterator[str]:
    """The rank that has most to do, where that is much more than the median."""
    pairs = [pair for each in told for pair in zip(each.ranks, each.step_work, strict=False) if pair[1] > 0]
    if len(pairs) < 2:
        return
    median = float(np.median([work for _, work in pairs]))
    rank, most = max(pairs, key=lambda pair: pair[1])
    if most > (1.0 + UNEVEN) * median:
        yield f"rank {rank} has {most / median:.2f} times the median's work in a step"


def _same(one: int, other: int) -> str:
    return f"ranks {one} and {other} read the same first batch"
