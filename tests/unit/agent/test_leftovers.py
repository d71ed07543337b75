"""What stays behind in a dead rank's process group, and what does not belong to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ryzen_agent import leftovers

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
LEADER = f"""
import subprocess, time
stays = subprocess.Popen({SLEEP!r})
leaves = subprocess.Popen({SLEEP!r}, start_new_session=True)
print(stays.pid, leaves.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int, int]]:
    """A dead leader's group, the member that stayed in it, and the one that had left it."""
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TORCHELASTIC_RUN_ID": "job"},
    )  # fmt: skip
    assert leader.stdout is not None
    stays, leaves = map(int, leader.stdout.readline().split())
    leader.kill()
    leader.wait()
    yield leader.pid, stays, leaves
    for pid in (stays, leaves):
        os.kill(pid, signal.SIGKILL)


def test_members_of_the_group_are_found_and_daemons_that_left_it_are_not(family: tuple[int, int, int]) -> None:
    group, stays, _leaves = family
    assert [(each.pid, each.generation) for each in leftovers.find({group: 3}, os.getuid(), "job")] == [(stays, 3)]


def test_what_another_job_or_user_started_is_left_alone(family: tuple[int, int, int]) -> None:
    group, _stays, _leaves = family
    assert leftovers.find({group: 3}, os.getuid(), "other") == []
    assert leftovers.find({group: 3}, os.getuid() + 1, "job") == []


def test_a_group_without_members_costs_one_question() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    ended.wait()
    assert not leftovers.has_members(ended.pid)
    assert leftovers.find({ended.pid: 1}, os.getuid(), "job") == []
