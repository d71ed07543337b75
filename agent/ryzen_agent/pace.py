"""How fast the ranks of one job train here, from the rings of finished steps in their pages.

Done when somebody asks and every few seconds for the coordinator, never in the training loop. The window is the newest
`WINDOW_STEPS` steps of a rank; the first step of a generation, which compiles and allocates, is in no window. A step
lasts until the next one begins, so what happens between two (an evaluation, a checkpoint) is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ryzen_agent.job import Job
from ryzen_protos.beat_page import BeatReader, Measures, Progress, StepRecord
from ryzen_protos.v1 import node_pb2

WINDOW_STEPS = 50
EVERY_S = 10.0
"""Between two messages about it: nothing is decided by them, and a coordinator of 2,048 nodes has to read them."""

STALE_S = 1.5
"""Beyond which a reading is made anew for whoever asks."""

_STEP_S_MAX = 1e6


class RankSteps(NamedTuple):
    """What one rank's page says: `steps` are those of the window, `sections` the names that their seconds count
    through."""

    rank: int
    progress: Progress
    measures: Measures
    steps: Sequence[StepRecord]
    sections: Sequence[str]
    sums: Sequence[tuple[int, int]] = ()
    generation: int = 0


class PaceBook:
    """The newest reading of each job's rings, for all who need it: they are read once."""

    def __init__(self) -> None:
        self._read: dict[Job, tuple[float, list[RankSteps]]] = {}

    def read(self, job: Job, now_s: float) -> list[RankSteps]:
        """Read them now."""
        found = read(job)
        self._read[job] = (now_s, found)
        return found

    def newest(self, job: Job, now_s: float) -> list[RankSteps]:
        """As they were read last; anew where nobody has asked for a while, as when the coordinator is away."""
        at_s, found = self._read.get(job, (-math.inf, []))
        generation = job.generation
        stale = now_s - at_s > EVERY_S + STALE_S or any(each.generation != generation for each in found)
        return self.read(job, now_s) if stale else found

    def keep(self, jobs: Iterable[Job]) -> None:
        """Forget all others."""
        known = set(jobs)
        self._read = {job: found for job, found in self._read.items() if job in known}


class PaceNews:
    """What one stream has been told, and when."""

    def __init__(self, book: PaceBook) -> None:
        self._book = book
        self._told_s: dict[Job, float] = {}

    def take(self, jobs: Iterable[Job], now_s: float) -> dict[Job, node_pb2.Pace]:
        """The paces that are due."""
        due = {}
        told = {}
        for job in jobs:
            told[job] = self._told_s.get(job, -math.inf)
            if now_s - told[job] >= EVERY_S and (found := of_ranks(self._book.read(job, now_s))) is not None:
                due[job] = found
                told[job] = now_s
        self._told_s = told
        return due


def of_job(job: Job) -> node_pb2.Pace | None:
    """Of the newest generation's ranks; None where none of them has done a step beyond its first."""
    return of_ranks(read(job))


def of_ranks(ranks: Sequence[RankSteps]) -> node_pb2.Pace | None:
    known = [each for each in ranks if each.steps]
    return together(known[0].generation, known) if known else None


def read(job: Job) -> list[RankSteps]:
    """What the pages of the newest generation's ranks say now."""
    return [
        steps_of(rank.identity.rank, rank.page.progress, rank.page.reader)
        for rank in job.newest()
        if rank.page is not None and rank.page.progress is not None
    ]


def steps_of(rank: int, progress: Progress, reader: BeatReader) -> RankSteps:
    """What the page says now."""
    last = min(progress.steps_done - 1, WINDOW_STEPS)
    steps = [each for each in reader.steps(last) if 0 < each.duration_ns < _STEP_S_MAX * 1e9] if last > 0 else []
    measures, generation = reader.measures() or Measures(), reader.header.generation
    return RankSteps(rank, progress, measures, steps, reader.section_names(), reader.sums(), generation)


def together(generation: int, ranks: Sequence[RankSteps]) -> node_pb2.Pace:
    """The node's message. Every one of `ranks` has steps."""
    seconds = [sum(each.duration_ns for each in rank.steps) / 1e9 for rank in ranks]
    tokens = [sum(each.tokens for each in rank.steps) for rank in ranks]
    flops = [flops_of(rank, count) / s for rank, count, s in zip(ranks, tokens, seconds, strict=True)]
    factors = [rank.measures.hardware_factor for rank in ranks]
    peaks = [rank.measures.peak_flops for rank in ranks]
    sections = _sections(ranks)
    talks = [sum_share(rank.steps, rank.sums) for rank in ranks]
    lasted = sorted((ended - began) / 1e9 for rank in ranks for began, ended in rank.sums)
    rates = [rank.progress.learning_rate for rank in ranks if rank.progress.learning_rate is not None]
    step_s = sum(s / len(rank.steps) for rank, s in zip(ranks, seconds, strict=True)) / len(ranks)
    return node_pb2.Pace(
        generation=generation,
        ranks=[rank.rank for rank in ranks],
        steps=max(len(rank.steps) for rank in ranks),
        step_s=step_s,
        tokens_per_s=sum(count / s for count, s in zip(tokens, seconds, strict=True)),
        samples_per_s=sum(_samples(rank, count) / s for rank, count, s in zip(ranks, tokens, seconds, strict=True)),
        flops_per_s=sum(flops),
        hardware_flops_per_s=sum(each * max(factor, 1.0) for each, factor in zip(flops, factors, strict=True)),
        peak_flops=sum(peaks) if all(peaks) else 0.0,
        sections=list(sections),
        section_s=list(sections.values()),
        communication_s=step_s * sum(talks) / len(talks),
        all_reduce_p50_s=lasted[len(lasted) // 2] if lasted else 0.0,
        all_reduce_p99_s=lasted[len(lasted) * 99 // 100] if lasted else 0.0,
        loss=[_loss(rank.progress.loss) for rank in ranks],
        learning_rate=rates[0] if rates and math.isfinite(rates[0]) else None,
        step_work=[
            (count or _samples(rank, count)) / len(rank.steps) for rank, count in zip(ranks, tokens, strict=True)
        ],
    )


def sum_share(steps: Sequence[StepRecord], sums: Sequence[tuple[int, int]]) -> float:
    """Share of the window's time with at least one gradient sum under way, as far back as the ring of sums goes."""
    if not steps or not sums:
        return 0.0
    begin = max(steps[0].started_ns, min(began for began, _ in sums))
    end = steps[-1].started_ns + steps[-1].duration_ns
    under_way, until = 0, begin
    for began, ended in sorted(sums):
        began, ended = max(began, until), min(ended, end)
        if ended > began:
            under_way += ended - began
            until = ended
    return under_way / (end - begin) if end > begin else 0.0


def _loss(loss: float | None) -> float:
    """NaN is for none at all, so one that is no number is told as infinite: neither is a loss to go on with."""
    return math.nan if loss is None else loss if math.isfinite(loss) else math.inf


def flops_of(rank: RankSteps, tokens: int) -> float:
    """FLOPs of the window by the model; by the newest step's own figure where no token or step has a price."""
    measures = rank.measures
    if measures.flops_per_token or measures.flops_per_step:
        return tokens * measures.flops_per_token + len(rank.steps) * measures.flops_per_step
    newest = rank.progress.flops
    return len(rank.steps) * newest if newest is not None and 0 <= newest < math.inf else 0.0


def _samples(rank: RankSteps, tokens: int) -> float:
    """Samples of the window. The ring counts tokens alone, so by their ratio over all steps; without tokens, evenly."""
    progress = rank.progress
    if progress.tokens:
        return tokens * progress.samples / progress.tokens
    return len(rank.steps) * progress.samples / max(progress.steps_done, 1)


def _sections(ranks: Sequence[RankSteps]) -> dict[str, float]:
    """Mean seconds of a step by section. The page has durations of its first eight sections; with more, they do not
    add up to the step."""
    found: dict[str, float] = {}
    for rank in ranks:
        for name, spent in zip(rank.sections, zip(*(each.sections for each in rank.steps), strict=True), strict=False):
            mean_s = sum(spent) / len(spent) / len(ranks)
            if mean_s > 0 and math.isfinite(mean_s):
                found[name] = found.get(name, 0.0) + mean_s
    return found
