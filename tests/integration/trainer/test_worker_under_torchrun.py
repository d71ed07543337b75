"""Under a real torchrun: its log files, prefixes, failure report and generations are those of cold ranks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from .launching import HOWS, WORKER, processes_with, wait_until

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
TORCHRUN_S_MAX = 120

SCRIPT = """
import os, sys, time
from torch.distributed.elastic.multiprocessing.errors import record
@record
def main():
    rank, again = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    print("out of", rank, "in", again)
    print("err of", rank, "in", again, file=sys.stderr)
    open(f"said-{again}-{rank}", "w").close()
    while not os.path.exists(f"said-{again}-0"):
        time.sleep(.01)
    if rank == "1":
        if again == "0":
            raise RuntimeError("recorded")
        os.kill(os.getpid(), 11)
    time.sleep(60)
main()
"""


@dataclass
class Ran:
    code: int
    out: str
    err: str
    logs: dict[str, str]
    """Path below attempts' folders -> content."""


@pytest.fixture(scope="module", params=HOWS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two ranks, one restart; rank 0's stdout and rank 1's stderr go to a file, all else to files and the console."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "train.py").write_text(SCRIPT)
    run_dir = Path(tempfile.mkdtemp(dir="/dev/shm"))  # a run id of --standalone is long, and a socket's path is not
    worker = ["--no-python", WORKER] if request.param == "warm" else []
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1", "--log-dir=logs",
               "--redirects=0:1,1:2", "--tee=0:2,1:1"]  # fmt: skip
    done = subprocess.run(
        [TORCHRUN, *options, *worker, "train.py"], cwd=folder, capture_output=True, text=True, check=False,
        timeout=TORCHRUN_S_MAX, env={**os.environ, "RYZEN_RUN_DIR": str(run_dir)},
    )  # fmt: skip
    wait_until(lambda: not processes_with(f"RYZEN_RUN_DIR={run_dir}"), "nothing left")
    shutil.rmtree(run_dir)
    logs = {str(Path(*each.relative_to(folder / "logs").parts[1:])): each.read_text()
            for each in (folder / "logs").rglob("*") if each.is_file()}  # fmt: skip
    assert "cold start" not in done.stderr + "".join(logs.values())
    return Ran(done.returncode, done.stdout, done.stderr, logs)


def said(text: str) -> list[str]:
    """What the script said, with torchrun's prefix where there is one."""
    return sorted(each for each in text.splitlines() if re.search(r"(out|err) of \d in \d$", each))


def test_redirected_output_is_in_the_file_and_tees_are_on_the_console_with_their_prefix(ran: Ran) -> None:
    """torchrun runs the first generation again in a folder `attempt_1`."""
    for attempt in "01":
        files = {name: ran.logs[f"attempt_{attempt}/{name}"] for name in ("0/stdout.log", "1/stderr.log",
                 "0/stderr.log", "1/stdout.log")}  # fmt: skip
        assert {name: said(text) for name, text in files.items()} == {
            "0/stdout.log": [f"out of 0 in {attempt}"], "1/stderr.log": [f"err of 1 in {attempt}"],
            "0/stderr.log": [f"err of 0 in {attempt}"], "1/stdout.log": [f"out of 1 in {attempt}"],
        }  # fmt: skip
    assert said(ran.out) == ["[default1]:out of 1 in 0", "[default1]:out of 1 in 1"]
    assert said(ran.err) == ["[default0]:err of 0 in 0", "[default0]:err of 0 in 1"]


def test_the_error_file_says_what_was_recorded(ran: Ran) -> None:
    assert '"message": "RuntimeError: recorded"' in ran.logs["attempt_0/1/error.json"]
    assert "RuntimeError: recorded" in ran.logs["attempt_0/1/stderr.log"]


def test_torchruns_report_names_the_rank_and_its_signal(ran: Ran) -> None:
    assert ran.code == 1
    report = ran.err.partition("Root Cause (first observed failure):")[2]
    assert re.search(r"rank +: 1 \(local_rank: 1\)", report)
    assert re.search(r"exitcode +: -11", report)
    assert "Signal 11 (SIGSEGV) received by PID" in report
