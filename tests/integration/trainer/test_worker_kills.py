"""Whoever is killed, nothing is left: no process of the rank, no nursery without its torchrun, no file."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .launching import Launcher, Started, is_alive, processes_with, wait_until

SLEEPER = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
WITH_WORKERS = """
import os, time, torch
from torch.utils.data import DataLoader, Dataset
class Slow(Dataset):
    def __len__(self): return 1000
    def __getitem__(self, i): time.sleep(0.05); return i
batches = iter(DataLoader(Slow(), num_workers=2))
next(batches)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


def two_ranks(launcher: Launcher, text: str = SLEEPER) -> tuple[list[Started], list[int], int]:
    """Stubs, ranks, nursery."""
    launcher.script("sleeper.py", text)
    started = [launcher.start("warm", ["sleeper.py"], local_rank=each) for each in range(2)]
    ranks = [each.says_pid() for each in started]
    assert all(rank != each.pid for rank, each in zip(ranks, started, strict=True))
    (nursery,) = launcher.nurseries
    return started, ranks, nursery


def test_a_killed_rank_is_a_killed_stub_and_no_other(launcher: Launcher) -> None:
    stubs, ranks, nursery = two_ranks(launcher)
    os.kill(ranks[0], signal.SIGKILL)
    assert stubs[0].wait().code == -signal.SIGKILL
    assert not (launcher.job / "worker-0").exists()
    assert is_alive(ranks[1])
    assert is_alive(stubs[1].pid)
    assert is_alive(nursery)


def test_a_killed_stub_takes_its_rank_and_its_data_loader_workers_with_it(launcher: Launcher) -> None:
    stubs, ranks, nursery = two_ranks(launcher, WITH_WORKERS)
    children = [int(each) for each in Path(f"/proc/{ranks[0]}/task/{ranks[0]}/children").read_text().split()]
    assert len(children) == 2
    os.kill(stubs[0].pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(each) for each in [ranks[0], *children]))
    assert is_alive(ranks[1])
    assert is_alive(nursery)


def test_a_killed_rank_leaves_no_data_loader_worker(launcher: Launcher) -> None:
    _, ranks, _ = two_ranks(launcher, WITH_WORKERS)
    children = [int(each) for each in Path(f"/proc/{ranks[0]}/task/{ranks[0]}/children").read_text().split()]
    os.kill(ranks[0], signal.SIGKILL)
    wait_until(lambda: not any(is_alive(each) for each in children))


def test_a_stopped_rank_can_still_be_killed_through_its_stub(launcher: Launcher) -> None:
    stubs, ranks, _ = two_ranks(launcher)
    os.kill(ranks[0], signal.SIGSTOP)
    os.killpg(stubs[0].pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(ranks[0]))


def test_nothing_survives_a_killed_torchrun(launcher: Launcher) -> None:
    two_ranks(launcher)
    launcher.process.kill()
    launcher.process.wait()
    wait_until(lambda: not launcher.left(), "nothing left")


def test_nothing_survives_a_torchrun_that_is_killed_while_the_nursery_imports(launcher: Launcher) -> None:
    launcher.script("sleeper.py", SLEEPER)
    launcher.start("warm", ["sleeper.py"])
    wait_until(lambda: list(launcher.job.glob("nursery-*.sock")))
    launcher.process.kill()
    launcher.process.wait()
    wait_until(lambda: not processes_with(f"RYZEN_RUN_DIR={launcher.run_dir}"), "no process left")


def test_a_killed_nursery_is_a_killed_rank_and_the_next_start_founds_another(launcher: Launcher) -> None:
    stubs, ranks, nursery = two_ranks(launcher, WITH_WORKERS)
    children = [int(each) for each in Path(f"/proc/{ranks[0]}/task/{ranks[0]}/children").read_text().split()]
    os.kill(nursery, signal.SIGKILL)
    results = [each.wait() for each in stubs]
    assert [each.code for each in results] == [-signal.SIGKILL] * 2
    assert "ryzen-worker: the nursery has died, and the rank with it" in results[0].err
    wait_until(lambda: not any(is_alive(each) for each in [*ranks, *children]))
    assert not list(launcher.job.glob("nursery-*"))
    assert launcher.run("warm", [launcher.script("short.py", "print('again')")]).out == "again\n"
    assert launcher.nurseries != [nursery]


def test_a_nursery_that_was_killed_with_all_its_stubs_is_replaced(launcher: Launcher) -> None:
    stubs, ranks, nursery = two_ranks(launcher)
    for pid in (stubs[0].pid, stubs[1].pid, nursery):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(each) for each in ranks))
    assert list(launcher.job.glob("nursery-*.sock")), "nobody was left to remove it"
    result = launcher.run("warm", [launcher.script("short.py", "print('again')")])
    assert (result.out, result.code) == ("again\n", 0)
    assert "cold" not in result.err


def test_the_exit_code_of_a_rank_can_be_read_from_its_zombie(launcher: Launcher) -> None:
    launcher.script("code.py", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(.3)\nraise SystemExit(9)\n")
    started = launcher.start("warm", ["code.py"])
    pid = started.says_pid()
    descriptor = os.pidfd_open(pid)
    wait_until(lambda: not is_alive(pid))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert (fields[0], int(fields[49]) >> 8) == ("Z", 9)
    os.close(descriptor)
    assert started.wait().code == 9
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the zombie is reaped")


def forks(launcher: Launcher, count: int) -> None:
    """So many ranks, eight at a time, that use locks, threads and torch at once; each must end by itself."""
    launcher.script("busy.py", (
        "import os, threading, torch, logging\n"
        "threads = [threading.Thread(target=lambda: torch.rand(64, 64) @ torch.rand(64, 64)) for _ in range(2)]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]\n"
        "logging.warning('x'); print(os.getpid(), flush=True); os._exit(5)\n"))  # fmt: skip
    pids = set()
    for _ in range(0, count, 8):
        batch = [launcher.start("warm", ["busy.py"], local_rank=each) for each in range(8)]
        for each in batch:
            result = each.wait()
            assert (result.code, "cold" in result.err) == (5, False), result.err
            pids.add(result.out)
    assert len(pids) >= count
    assert len(launcher.nurseries) == 1


def test_a_hundred_forks_all_work(launcher: Launcher) -> None:
    forks(launcher, 100)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_forks_all_work_and_leave_the_nursery_as_it_was(launcher: Launcher) -> None:
    forks(launcher, 16)
    (nursery,) = launcher.nurseries
    before = opened_by(nursery)
    forks(launcher, 1000)
    wait_until(lambda: opened_by(nursery) <= before)
    wait_until(lambda: not Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split())


def opened_by(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
