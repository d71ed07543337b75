"""Which processes are ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ryzen_agent.ranks import FoundRank, RankFinder, RankIdentity, identity_from_environ

ENVIRON = {"TORCHELASTIC_RUN_ID": "job", "RANK": "5", "LOCAL_RANK": "1", "RYZEN_GENERATION": "3"}
SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
WRAPPED = [sys.executable, "-c", f"import subprocess, sys; subprocess.run({SLEEP!r}, env={ENVIRON!r})"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for each in processes:
        os.killpg(each.pid, 9)
        each.wait()


def test_a_rank_is_known_by_its_environment() -> None:
    assert identity_from_environ(ENVIRON) == RankIdentity("job", 3, 5, 1)


def test_without_our_handler_the_generation_is_0() -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != "RYZEN_GENERATION"}
    assert identity_from_environ(environ) == RankIdentity("job", 0, 5, 1)


def test_rank_alone_makes_no_rank_because_operators_set_it_for_torchrun() -> None:
    assert identity_from_environ({"RANK": "0", "WORLD_SIZE": "4"}) is None


def test_a_rank_that_is_no_number_is_none() -> None:
    assert identity_from_environ({**ENVIRON, "RANK": "five"}) is None


def start(processes: list[subprocess.Popen[bytes]], command: list[str], **environ: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, start_new_session=True)
    processes.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def find_until_found(finder: RankFinder) -> list[FoundRank]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := finder.find(time.monotonic()):
            return found
    raise AssertionError("no rank was found")


def test_children_of_torchrun_are_found_once(started: list[subprocess.Popen[bytes]]) -> None:
    finder = RankFinder(os.getpid(), "job")
    rank = start(started, SLEEP, **ENVIRON)
    start(started, SLEEP)
    start(started, SLEEP, **{**ENVIRON, "TORCHELASTIC_RUN_ID": "other"})
    assert [each.pid for each in finder.find(time.monotonic())] == [rank.pid]
    assert finder.find(time.monotonic()) == []
    finder.close()


def test_a_rank_behind_a_wrapper_is_found(started: list[subprocess.Popen[bytes]]) -> None:
    finder = RankFinder(os.getpid(), "job")
    wrapper = start(started, WRAPPED)
    found = find_until_found(finder)
    assert [each.identity.rank for each in found] == [5]
    assert found[0].pid != wrapper.pid
    finder.close()
