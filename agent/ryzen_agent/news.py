"""What one stream has been told of each job, and what of that is due: all that changes too seldom for every update."""

from __future__ import annotations

from collections.abc import Iterable

from ryzen_agent import pace
from ryzen_agent.batches import BatchNews
from ryzen_agent.job import Job
from ryzen_agent.pace import PaceBook, PaceNews
from ryzen_agent.report import Due, GapNews, StackNews, stack_texts
from ryzen_agent.self_checks import SelfCheckNews


class News:
    """Of one stream: a new one is told everything."""

    def __init__(self, book: PaceBook) -> None:
        self._stacks, self._gaps = StackNews(), GapNews()
        self._paces, self._self_checks, self._batches = PaceNews(book), SelfCheckNews(), BatchNews()

    def take(self, jobs: Iterable[Job], inquiry: int, now_s: float) -> dict[Job, Due]:
        """Of every job. `inquiry`: the newest that the coordinator has made."""
        jobs = list(jobs)
        stacks, gaps = self._stacks.take(jobs, inquiry), self._gaps.take(jobs, now_s)
        paces, self_checks = self._paces.take(jobs, now_s), self._self_checks.take(jobs, now_s)
        batches = self._batches.take(jobs)
        return {
            job: Due(stacks.get(job, {}), gaps.get(job, {}), paces.get(job), self_checks.get(job, []), batches.get(job))
            for job in jobs
        }


def of_all(jobs: Iterable[Job], now_s: float) -> dict[Job, Due]:
    """What a person is told who asks."""
    jobs = list(jobs)
    self_checks = SelfCheckNews().take(jobs, now_s)
    return {job: Due(stack_texts(job), job.gaps.longest(), pace.of_job(job), self_checks.get(job, [])) for job in jobs}
