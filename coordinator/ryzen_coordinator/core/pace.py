"""How fast a job trains: what its nodes say of their ranks, put together when somebody asks.

Nothing is decided by it. A node's word is some seconds old and of its own newest steps, so the figures are of "now" as
far as a job's pace is steady.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ryzen_coordinator.core import shards
from ryzen_coordinator.core.events import PaceSeen
from ryzen_coordinator.core.state import Job

_NAMED = 16
"""So many ranks whose loss is no number are named."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a figure that each rank has, and whose the extremes are. What is no finite number counts as infinite."""

    least: float
    median: float
    most: float
    least_rank: int
    most_rank: int
    not_finite: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPace:
    """Rates of all ranks together; `sections` are shares of a step's time. None: not known."""

    ranks: int
    step_s: float
    tokens_per_s: float
    samples_per_s: float
    flops_per_s: float
    mfu: float | None
    hfu: float | None
    sections: dict[str, float]
    communication: float | None
    all_reduce_p50_s: float
    all_reduce_p99_s: float
    loss: Spread | None
    learning_rate: float | None
    advice: tuple[str, ...] = ()
    """What is odd in how the data are shared out, in words."""


def of_job(job: Job) -> JobPace | None:
    """Of the running generation; None where no node has told anything of it."""
    told = [member.pace for member in job.world_members() if member.pace is not None]
    told = [each for each in told if each.generation == job.table.generation and each.ranks]
    if not told:
        return None
    return replace(together(told), advice=(*shards.words(job), *shards.uneven(told)))


def together(told: list[PaceSeen]) -> JobPace:
    """One figure from many nodes'. Means are over ranks; MFU is FLOP/s over peak of the nodes that know both, and not
    known where one that trains does not."""
    weights = np.array([len(each.ranks) for each in told], dtype=np.float64)
    ranks = float(weights.sum())
    step_s = float(weights @ np.array([each.step_s for each in told])) / ranks
    flops = sum(each.flops_per_s for each in told)
    hardware = sum(each.hardware_flops_per_s for each in told)
    peak = sum(each.peak_flops for each in told) if all(each.peak_flops for each in told) else 0.0
    talks = [(each, count) for each, count in zip(told, weights, strict=True) if each.communication_s > 0]
    shares: dict[str, float] = {}
    for each, count in zip(told, weights, strict=True):
        for name, seconds in each.sections:
            shares[name] = shares.get(name, 0.0) + seconds * float(count)
    rates = [each.learning_rate for each in told if each.learning_rate is not None]
    return JobPace(
        ranks=int(ranks),
        step_s=step_s,
        tokens_per_s=sum(each.tokens_per_s for each in told),
        samples_per_s=sum(each.samples_per_s for each in told),
        flops_per_s=flops,
        mfu=flops / peak if flops and peak else None,
        hfu=hardware / peak if hardware and peak else None,
        sections={name: seconds / (ranks * step_s) for name, seconds in shares.items()} if step_s else {},
        communication=_communication(talks) if talks else None,
        all_reduce_p50_s=float(np.median([each.all_reduce_p50_s for each, _ in talks])) if talks else 0.0,
        all_reduce_p99_s=max((each.all_reduce_p99_s for each, _ in talks), default=0.0),
        loss=_loss(told),
        learning_rate=rates[0] if rates else None,
    )


def _communication(talks: list[tuple[PaceSeen, float]]) -> float | None:
    spent = sum(each.communication_s * count for each, count in talks)
    whole = sum(each.step_s * count for each, count in talks)
    return spent / whole if whole else None


def _loss(told: list[PaceSeen]) -> Spread | None:
    """One pass over all ranks; None where no rank gives a loss."""
    those = [each for each in told if len(each.loss) == len(each.ranks)]
    values = np.array([value for each in those for value in each.loss], dtype=np.float64)
    ranks = np.array([rank for each in those for rank in each.ranks], dtype=np.int64)
    given = ~np.isnan(values)
    if not given.any():
        return None
    values, ranks = values[given], ranks[given]
    least, most = int(np.argmin(values)), int(np.argmax(values))
    strange = np.sort(ranks[np.isinf(values)])[:_NAMED]
    return Spread(
        least=float(values[least]),
        median=float(np.median(values)),
        most=float(values[most]),
        least_rank=int(ranks[least]),
        most_rank=int(ranks[most]),
        not_finite=tuple(int(rank) for rank in strange),
    )
