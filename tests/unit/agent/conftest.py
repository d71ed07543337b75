"""A job of three ranks whose pages are real and whose processes are not watched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_agent.job import Hooks, Job
from ryzen_agent.ranks import FoundRank, RankIdentity
from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatWriter, Header


@pytest.fixture
def pages(tmp_path: Path) -> list[BeatWriter]:
    found = []
    for number in range(3):
        path = run_dir.beat_page(tmp_path, "job", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        found.append(BeatWriter(path, Header("job", 1, number, number, 3, os.getpid(), 1, 1)))
    return found


@pytest.fixture
def job(tmp_path: Path, pages: list[BeatWriter]) -> Iterator[Job]:
    loop = asyncio.new_event_loop()
    job = Job("job", "me", os.getuid(), tmp_path, loop, Hooks(lambda _: None, lambda *_: None))
    for number, _ in enumerate(pages):
        job.add_dead(FoundRank(RankIdentity("job", 1, number, number), 10 + number, 1), 0.0, None, killed=False)
        job.ranks[-1].exited_at_s, job.ranks[-1].state = None, "R"
    yield job
    job.close()
    loop.close()
