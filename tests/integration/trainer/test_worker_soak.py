"""Kills in a row of random ranks under a real torchrun: each recovers, and nothing is left over or grows."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .launching import WORKER, processes_with, wait_until

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
RANKS = 2
SETTLED = 3
"""After so many kills everything that is made once has been made."""

HEAP_GROWTH_BYTES_MAX = 2 << 20
"""Of the nursery's own memory over the whole run. One leaked request (the environment) a kill would be 200 x 10 KB."""

SCRIPT = """
import os, time, torch, torch.distributed as dist
from torch.utils.data import DataLoader
dist.init_process_group("gloo")
batches = iter(DataLoader(range(1000), num_workers=1))  # a process, shared memory and pipes of its own
next(batches)
dist.barrier()
name = "said-" + os.environ["TORCHELASTIC_RESTART_COUNT"] + "-" + os.environ["RANK"]
with open("." + name, "w") as file:
    file.write(str(os.getpid()))
os.rename("." + name, name)
while True:
    dist.all_reduce(torch.ones(1))
    time.sleep(.01)
"""


@dataclass
class Kept:
    """What must stay as it is."""

    processes: int
    descriptors: dict[str, int]
    unix_sockets: int
    files: list[str]
    heap_bytes: int = field(compare=False)
    pss_bytes: int = field(compare=False)


class Job:
    """One node of two ranks, stock rendezvous, any number of restarts."""

    def __init__(self, folder: Path, run_dir: Path) -> None:
        self.folder, self.run_dir = folder, run_dir
        self.pids: set[int] = set()
        (folder / "train.py").write_text(SCRIPT)
        environment = {**os.environ, "RYZEN_RUN_DIR": str(run_dir), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1",
                       # torchrun's own store is shared by all rounds: a quick rank reads addresses of the round before
                       "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # fmt: skip
        options = ["--standalone", f"--nproc-per-node={RANKS}", "--max-restarts=100000", "--monitor-interval=0.05"]
        with (folder / "log").open("w") as log:
            self.torchrun = subprocess.Popen(
                [TORCHRUN, *options, "--no-python", WORKER, "train.py"], cwd=folder, env=environment, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def ranks(self, after: int) -> tuple[int, list[int]]:
        """The first whole generation after that one, and its pids by rank."""

        def whole() -> tuple[int, list[int]] | None:
            assert self.torchrun.poll() is None, (self.folder / "log").read_text()[-3000:]
            found: dict[int, dict[int, int]] = {}
            for each in self.folder.glob("said-*"):
                generation, rank = map(int, each.name.split("-")[1:])
                found.setdefault(generation, {})[rank] = int(each.read_text())
            ready = [each for each in sorted(found) if each > after and len(found[each]) == RANKS]
            return (ready[0], [found[ready[0]][rank] for rank in range(RANKS)]) if ready else None

        generation, pids = wait_until(whole, "the next generation")
        self.pids |= set(pids)
        return generation, pids

    @property
    def nursery(self) -> int:
        (path,) = self.run_dir.glob("jobs/*/nursery-*.json")
        return int(json.loads(path.read_text())["pid"])

    def look(self) -> Kept:
        """With all ranks alive and nothing of the generation before."""
        nursery = self.nursery
        wait_until(lambda: len(children_of(nursery)) == RANKS, "the last rank is reaped")
        # torchrun, nursery, stubs; ranks and loaders; what torchrun keeps beside them is the same throughout
        running = processes_with(f"RYZEN_RUN_DIR={self.run_dir}")
        sockets = sum(str(self.run_dir) in line for line in Path("/proc/net/unix").read_text().splitlines())
        files = [each.name for each in self.run_dir.rglob("*") if not each.is_dir()]
        rollup = Path(f"/proc/{nursery}/smaps_rollup").read_text()
        sizes = {line.split()[0]: int(line.split()[1]) << 10 for line in rollup.splitlines()[1:]}
        return Kept(len(running), {"nursery": descriptors_of(nursery), "torchrun": descriptors_of(self.torchrun.pid)},
                    sockets, sorted(files), sizes["Anonymous:"], sizes["Pss:"])  # fmt: skip

    def shared_memory(self) -> list[str]:
        """Of any rank that there was."""
        shared = [each.name for each in Path("/dev/shm").iterdir()]  # noqa: S108
        named = [each for each in shared if any(f"_{pid}_" in each for pid in self.pids)]
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return named + [line for line in lines if int(line.split()[4]) in self.pids]


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    run_dir = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="ryzen-soak-"))
    job = Job(tmp_path, run_dir)
    yield job
    job.torchrun.kill()
    job.torchrun.wait()
    wait_until(lambda: not processes_with(f"RYZEN_RUN_DIR={run_dir}"), "nothing is left running")
    shutil.rmtree(run_dir)


def strike(job: Job, kills: int) -> tuple[Kept, Kept]:
    """What was there when all had settled, and at the end."""
    chance = random.Random(7)
    generation, pids = job.ranks(-1)
    nursery, first = job.nursery, None
    for number in range(kills):
        if number == SETTLED:
            first = job.look()
        time.sleep(chance.random() * 0.1)  # any moment of a step
        os.kill(chance.choice(pids), signal.SIGKILL)
        generation, pids = job.ranks(generation)
    last = job.look()
    assert last == first
    assert first is not None
    assert last.heap_bytes - first.heap_bytes < HEAP_GROWTH_BYTES_MAX
    assert job.nursery == nursery, "one nursery for all of them"
    assert "cold start" not in (job.folder / "log").read_text()
    assert job.shared_memory() == []
    return first, last


def test_ten_kills_in_a_row_leave_nothing_behind(job: Job) -> None:
    strike(job, 10)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_kills_in_a_row_leave_nothing_behind(
    job: Job, record_testsuite_property: Callable[[str, object], None]
) -> None:
    for when, kept in zip(("settled", "end"), strike(job, 200), strict=True):
        record_testsuite_property(when, kept)
