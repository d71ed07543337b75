"""What one stream has been told of each job, and what of that is due: all that changes too seldom for every update."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from ryzen_agent import pace, report
from ryzen_agent.batches import BatchNews
from ryzen_agent.job import Job
from ryzen_agent.pace import PaceBook, PaceNews
from ryzen_agent.report import Due, GapNews, StackNews, stack_texts
from ryzen_agent.self_checks import SelfCheckNews
from ryzen_protos.v1 import node_pb2

WHOLE_EVERY_S = 10.0
"""A job is told whole again after so long though nothing but its progress has changed. Lower: more work for the
coordinator. Higher: one that has forgotten a job hears of it later."""


class _Told(NamedTuple):
    steady: tuple[object, ...]
    inquiry: int
    seq: int
    at_s: float


class News:
    """Of one stream: a new one is told everything."""

    def __init__(self, book: PaceBook) -> None:
        self._stacks, self._gaps = StackNews(), GapNews()
        self._told: dict[Job, _Told] = {}
        self._inquiry = 0
        self._share = random.random()  # noqa: S311 - a moment, no secret
        self._paces, self._self_checks, self._batches = PaceNews(book), SelfCheckNews(), BatchNews()

    def take(self, jobs: Iterable[Job], inquiry: int, now_s: float) -> dict[Job, Due]:
        """Of every job. `inquiry`: the newest that the coordinator has made."""
        jobs = list(jobs)
        self._inquiry = inquiry  # it asks for all that can be seen now
        stacks, gaps = self._stacks.take(jobs, inquiry), self._gaps.take(jobs, now_s)
        paces, self_checks = self._paces.take(jobs, now_s), self._self_checks.take(jobs, now_s)
        batches = self._batches.take(jobs)
        self._told = {job: told for job, told in self._told.items() if job in jobs}
        return {
            job: Due(stacks.get(job, {}), gaps.get(job, {}), paces.get(job), self_checks.get(job, []), batches.get(job))
            for job in jobs
        }

    def message(self, job: Job, seq: int, desired_generation: int, now_s: float, due: Due) -> node_pb2.ObservedJob:
        """The job in the update with that number: whole, or what is new where no more needs to be told."""
        steady, told = report.steady(job, desired_generation, now_s), self._told.get(job)
        if told is not None and (steady, self._inquiry) == (told.steady, told.inquiry) and not due.stacks:
            if now_s - told.at_s < WHOLE_EVERY_S:
                return report.job_news(job, told.seq, now_s, due)
            told_s = now_s
        else:
            told_s = now_s - self._share * WHOLE_EVERY_S  # or all agents would come to it in the same second
        if steady is None:
            self._told.pop(job, None)
        else:
            self._told[job] = _Told(steady, self._inquiry, seq, told_s)
        return report.observed_job(job, desired_generation, now_s, due)


def of_all(jobs: Iterable[Job], now_s: float) -> dict[Job, Due]:
    """What a person is told who asks."""
    jobs = list(jobs)
    self_checks = SelfCheckNews().take(jobs, now_s)
    return {job: Due(stack_texts(job), job.gaps.longest(), pace.of_job(job), self_checks.get(job, [])) for job in jobs}
