"""The file that names the process behind a stub is a hint from the job's user; what of it is believed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_agent.worker import behind, parse
from ryzen_protos.beat_records import process_start_ticks

STUB = (12, 3400)


@pytest.fixture
def rank() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
        env={"TORCHELASTIC_RUN_ID": "job"}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def written(path: Path, pid: int, ticks: int) -> Path:
    path.write_text(f"{STUB[0]} {STUB[1]} {pid} {ticks}\n")
    return path


def test_the_living_process_of_this_job_and_user_is_the_rank(tmp_path: Path, rank: subprocess.Popen[bytes]) -> None:
    ticks = process_start_ticks(rank.pid)
    path = written(tmp_path / "worker-0", rank.pid, ticks)
    assert behind(path, STUB, os.getuid(), "job") == (rank.pid, ticks)


def test_a_process_of_another_job_is_not(tmp_path: Path, rank: subprocess.Popen[bytes]) -> None:
    path = written(tmp_path / "worker-0", rank.pid, process_start_ticks(rank.pid))
    assert behind(path, STUB, os.getuid(), "other") is None


def test_a_process_that_has_taken_over_the_pid_is_not(tmp_path: Path, rank: subprocess.Popen[bytes]) -> None:
    path = written(tmp_path / "worker-0", rank.pid, process_start_ticks(rank.pid) - 1)
    assert behind(path, STUB, os.getuid(), "job") is None


def test_a_file_about_another_stub_or_of_another_user_says_nothing(
    tmp_path: Path, rank: subprocess.Popen[bytes]
) -> None:
    path = written(tmp_path / "worker-0", rank.pid, process_start_ticks(rank.pid))
    assert behind(path, (12, 3401), os.getuid(), "job") is None
    assert behind(path, STUB, os.getuid() + 1, "job") is None


def test_a_link_is_not_followed(tmp_path: Path, rank: subprocess.Popen[bytes]) -> None:
    target = written(tmp_path / "target", rank.pid, process_start_ticks(rank.pid))
    (tmp_path / "worker-0").symlink_to(target)
    assert behind(tmp_path / "worker-0", STUB, os.getuid(), "job") is None


@pytest.mark.parametrize("text", [b"", b"1 2 3", b"1 2 -3 4", b"1 2 x 4", b"1 2 0 4", b"1 2 99999999 4", b"1 " * 200])
def test_anything_but_four_numbers_is_nothing(text: bytes) -> None:
    assert parse(text) is None
