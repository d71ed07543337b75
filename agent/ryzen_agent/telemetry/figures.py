"""The node's state as samples: what is there already is handed on, nothing is measured for it.

GPUs are not asked again: their samples are those of the health collectors' newest look. Ranks' rates come from the
reading of the rings that the coordinator is told of, the rest from the newest record of each page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from ryzen_agent import procfs
from ryzen_agent.job import Job
from ryzen_agent.pace import RankSteps, flops_of, of_ranks
from ryzen_agent.rank import Rank
from ryzen_protos.v1 import node_pb2
from ryzen_telemetry.records import Sample, Value

CHECKPOINT = "checkpoint"
"""The section that a script saves in."""
STATES = ("running", "stopped", "failing", "exited")

Labels = tuple[tuple[str, Value], ...]


def of_job(job: Job, readings: Sequence[RankSteps], now_s: float) -> Iterator[Sample]:
    """Everything of one job here."""
    labels: Labels = (("ryzen.job", job.run_id), ("ryzen.user", job.user))
    for rank in job.newest():
        yield from of_rank(rank, labels, now_s)
    for each in readings:
        yield from of_steps(each, (*labels, ("ryzen.rank", each.rank)))
    pace = of_ranks(readings)
    if pace is not None and pace.communication_s > 0:
        yield Sample("ryzen.node.communication.share", pace.communication_s / pace.step_s, labels)
        yield Sample("ryzen.node.collective.duration.p50", pace.all_reduce_p50_s, labels)
        yield Sample("ryzen.node.collective.duration.p99", pace.all_reduce_p99_s, labels)


def state_of(rank: Rank) -> str:
    if not rank.alive:
        return "exited"
    if rank.page is not None and rank.page.failure is not None:
        return "failing"
    return "stopped" if rank.state in procfs.HALTED_STATES else "running"


def of_rank(rank: Rank, job: Labels, now_s: float) -> Iterator[Sample]:
    """From what is known of its process and of the newest record of its page."""
    labels = (*job, ("ryzen.rank", rank.identity.rank))
    now = state_of(rank)
    for state in STATES:
        yield Sample("ryzen.rank.state", float(state == now), (*labels, ("ryzen.rank.state", state)))
    page = rank.page
    if page is None or page.progress is None:
        return
    progress = page.progress
    if rank.alive:
        yield Sample("ryzen.rank.beat.age", max(now_s - page.changed_ns / 1e9, 0.0), labels)
    yield Sample("ryzen.rank.step", float(progress.step), labels)
    yield Sample("ryzen.rank.tokens", float(progress.tokens), labels)
    yield Sample("ryzen.rank.step.skipped", float(page.skips), labels)
    for name, value in (
        ("ryzen.rank.loss", progress.loss),
        ("ryzen.rank.gradient.norm", progress.grad_norm),
        ("ryzen.rank.learning_rate", progress.learning_rate),
    ):
        if value is not None:
            yield Sample(name, value, labels)


def of_steps(reading: RankSteps, labels: Labels) -> Iterator[Sample]:
    """Over the window of newest steps."""
    if not reading.steps:
        return
    for name, value in rates(reading).items():
        yield Sample(name, value, labels)
    for name, mean_s in section_means(reading).items():
        yield Sample("ryzen.rank.section.duration", mean_s, (*labels, ("ryzen.section", name)))
    if (checkpoint_s := newest_in(CHECKPOINT, reading)) is not None:
        yield Sample("ryzen.rank.checkpoint.duration", checkpoint_s, labels)


def rates(reading: RankSteps) -> dict[str, float]:
    """Step time, and throughput and MFU where the script says what is needed for them. There are steps."""
    seconds = sum(each.duration_ns for each in reading.steps) / 1e9
    tokens = sum(each.tokens for each in reading.steps)
    found = {"ryzen.rank.step.duration": seconds / len(reading.steps)}
    if tokens:
        found["ryzen.rank.throughput"] = tokens / seconds
    if (flops := flops_of(reading, tokens)) and reading.measures.peak_flops:
        found["ryzen.rank.mfu"] = flops / seconds / reading.measures.peak_flops
    return found


def section_means(reading: RankSteps) -> dict[str, float]:
    """Mean seconds of a step by section, of those that took any. There are steps."""
    spent = zip(*(each.sections for each in reading.steps), strict=True)
    means = ((name, sum(each) / len(each)) for name, each in zip(reading.sections, spent, strict=False))
    return {name: mean_s for name, mean_s in means if mean_s > 0 and math.isfinite(mean_s)}


def newest_in(section: str, reading: RankSteps) -> float | None:
    """Seconds of the newest step that spent any there."""
    if section not in reading.sections:
        return None
    place = reading.sections.index(section)
    spent = (each.sections[place] for each in reversed(reading.steps) if place < len(each.sections))
    return next((seconds for seconds in spent if seconds > 0 and math.isfinite(seconds)), None)


def of_conditions(conditions: Iterable[node_pb2.HealthCondition]) -> Iterator[Sample]:
    for each in conditions:
        labels: Labels = (
            ("ryzen.condition", each.name), ("ryzen.device", each.device), ("ryzen.severity", each.severity),
        )  # fmt: skip
        yield Sample("ryzen.condition", 1.0, labels)
