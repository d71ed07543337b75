"""Tells a job as agents do: whole where something has changed beside its progress, else only what is new.

So every scenario and every seed goes through both. The stream of an agent loses nothing, unlike the simulated one: a
report refers to what the core is known to have taken in.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import NO_BEATS, JobNews, JobSeen, NodeReport


class Told:
    """What the core has been told whole: stream and number of the report, and the job, by node."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, int, JobSeen]] = {}

    def shortened(self, report: NodeReport) -> NodeReport:
        """What the agent says in its place."""
        known = self._told.get(report.node)
        if known is None or len(report.jobs) != 1:
            return report
        stream, seq, before = known
        (job,) = report.jobs
        if not isinstance(job, JobSeen) or stream != report.stream or seq >= report.seq or not _as_before(job, before):
            return report
        news = JobNews(
            job.run_id, job.user, seq, job.beats, job.gaps, job.checkpoint_step, job.checks, job.self_checks,
            job.skipped, job.pace, job.batches,
        )  # fmt: skip
        return replace(report, jobs=(news,))

    def taken(self, report: NodeReport, core: Core) -> None:
        """The core has been given this."""
        for job in report.jobs:
            if isinstance(job, JobSeen):
                known = core.cluster.jobs.get(job.key)
                member = known.members.get(report.node) if known is not None else None
                self._told.pop(report.node, None)
                if member is not None and member.as_of == (report.stream, report.seq):
                    self._told[report.node] = (report.stream, report.seq, job)


def _as_before(job: JobSeen, before: JobSeen) -> bool:
    remarkable = job.handler != "running" or job.stacks or job.rollback_wanted is not None
    if remarkable or any(rank.life != "alive" or rank.process_state in "TtZ" or rank.probe for rank in job.ranks):
        return False
    return _rest(job) == _rest(before)


def _rest(job: JobSeen) -> JobSeen:
    return replace(
        job, beats=NO_BEATS, gaps=(), checkpoint_step=None, checks=(), self_checks=(), skipped=(), pace=None,
        batches=None,
    )  # fmt: skip
