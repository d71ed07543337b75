"""When a job needs no look soon: while all of its ranks go on writing."""

from __future__ import annotations

import time

from ryzen_agent.job import Job
from ryzen_protos.beat_page import BeatWriter


def look(job: Job) -> bool:
    job.scan(time.monotonic(), thorough=False)
    return job.at_ease


def write(page: BeatWriter, number: int) -> None:
    at_ns = time.monotonic_ns()
    page.progress(number, number, page.section_index("forward"), at_ns, at_ns)


def test_a_job_is_at_ease_while_each_rank_writes_and_no_more_once_one_is_silent(
    job: Job, pages: list[BeatWriter]
) -> None:
    seen = []
    for number, writers in enumerate([pages, pages, pages, pages[:1], pages]):
        for page in writers:
            write(page, number)
        seen.append(look(job))
    assert seen[2:] == [True, False, True]  # the first looks bring news: a first record, a first step
