"""When a job needs no look soon: while all of its ranks go on writing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_agent.job import Hooks, Job
from ryzen_agent.ranks import FoundRank, RankIdentity
from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatWriter, Header


@pytest.fixture
def pages(tmp_path: Path) -> list[BeatWriter]:
    """Of two ranks."""
    found = []
    for number in range(2):
        path = run_dir.beat_page(tmp_path, "job", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        found.append(BeatWriter(path, Header("job", 1, number, number, 2, os.getpid(), 1, 1)))
    return found


@pytest.fixture
def job(tmp_path: Path, pages: list[BeatWriter]) -> Iterator[Job]:
    """Its ranks are known, their processes are not watched."""
    loop = asyncio.new_event_loop()
    job = Job("job", "me", os.getuid(), tmp_path, loop, Hooks(lambda _: None, lambda *_: None))
    for number, _ in enumerate(pages):
        job.add_dead(FoundRank(RankIdentity("job", 1, number, number), 10 + number, 1), 0.0, None, killed=False)
        job.ranks[-1].exited_at_s, job.ranks[-1].state = None, "R"
    yield job
    job.close()
    loop.close()


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
