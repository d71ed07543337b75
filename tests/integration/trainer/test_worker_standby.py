"""`RYZEN_WARM=context`: the next generation's rank is a process that was parked beside this one's."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from .launching import Launcher, Started, is_alive, wait_until

CONTEXT = {"RYZEN_WARM": "context"}
TELL = """
import json, os, sys, time, torch
print(json.dumps([os.getpid(), sys.argv[1:], os.environ.get("MASTER_PORT"), torch.initial_seed(), torch.rand(1).item(),
    sys.stdin.read(), os.getcwd(), sorted(os.listdir("/proc/self/fd"))]), flush=True)
time.sleep(60)
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    launcher.script("tell.py", TELL)
    yield launcher
    launcher.close()


def parked(launcher: Launcher, local_rank: int = 0) -> dict[str, Any]:
    """What the nursery says of it. Empty where none is ready."""
    found = [json.loads(each.read_text())["parked"] for each in launcher.job.glob("nursery-*.json")]
    return next((each[str(local_rank)] for each in found if str(local_rank) in each), {})


def start(launcher: Launcher, *words: str, env: dict[str, str] | None = None, **inherited: Any) -> Started:
    return launcher.start("warm", ["tell.py", *words], env={**CONTEXT, **(env or {})}, **inherited)


def told(started: Started) -> list[Any]:
    wait_until(lambda: started.out.read_text().endswith("\n"), "it tells")
    found: list[Any] = json.loads(started.out.read_text())
    return found


def kill(started: Started) -> None:
    os.kill(told(started)[0], signal.SIGKILL)
    assert started.wait().code == -signal.SIGKILL


def test_the_next_rank_is_the_parked_process_with_all_that_torchrun_says_anew(launcher: Launcher) -> None:
    first = start(launcher, "one", env={"MASTER_PORT": "1"}, stdin="a")
    waiting = wait_until(lambda: parked(launcher))
    assert waiting["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu")
    kill(first)
    second = start(launcher, "two", env={"MASTER_PORT": "2", "TORCHELASTIC_RESTART_COUNT": "1"}, stdin="b")
    cold = launcher.start("cold", ["tell.py", "two"], env={**CONTEXT, "MASTER_PORT": "2"}, stdin="b", local_rank=1)
    assert told(second)[0] == waiting["pid"]
    assert told(second)[1:3] + told(second)[5:] == told(cold)[1:3] + told(cold)[5:]
    assert (launcher.job / "worker-0").read_text().split()[2] == str(waiting["pid"])
    third = wait_until(lambda: parked(launcher))
    assert third["pid"] != waiting["pid"], "it takes one generation, another one is parked"
    kill(second)
    os.kill(cold.pid, signal.SIGKILL)
    last = start(launcher)
    assert told(last)[0] == third["pid"]
    seeds = [told(each)[3:5] for each in (first, second, last)]
    assert len({tuple(each) for each in seeds}) == 3


SELDOM: list[dict[str, Any]] = [{"umask": 0o077}, {"env": {"CUDA_VISIBLE_DEVICES": "1"}}]
"""Long, for each imports torch three times."""


@pytest.mark.parametrize(
    "other",
    [{"affinity": [0]}, {"env": {"MY_OWN": "x"}}, *(pytest.param(each, marks=pytest.mark.long) for each in SELDOM)],
    ids=str,
)
def test_a_parked_process_of_other_surroundings_is_discarded(launcher: Launcher, other: dict[str, Any]) -> None:
    first = start(launcher)
    waiting = wait_until(lambda: parked(launcher))
    kill(first)
    second = start(launcher, **other)
    assert told(second)[0] != waiting["pid"]
    wait_until(lambda: not is_alive(waiting["pid"]))
    assert "cold" not in second.err.read_text()
    wait_until(lambda: parked(launcher), "one is parked for the new surroundings")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_parked_process_that_was_killed_or_stopped_is_not_waited_for(launcher: Launcher, number: int) -> None:
    first = start(launcher)
    waiting = wait_until(lambda: parked(launcher))
    os.kill(waiting["pid"], number)
    kill(first)
    second = start(launcher)
    assert told(second)[0] != waiting["pid"]
    assert "cold" not in second.err.read_text()
    wait_until(lambda: not is_alive(waiting["pid"]))


def test_each_local_rank_has_its_own_and_none_outlives_the_nursery(launcher: Launcher) -> None:
    ranks = [start(launcher, local_rank=each) for each in range(2)]
    pids = [wait_until(lambda each=each: parked(launcher, each))["pid"] for each in range(2)]
    assert pids[0] != pids[1]
    kill(ranks[1])
    assert told(start(launcher, local_rank=1))[0] == pids[1]
    (nursery,) = launcher.nurseries
    os.kill(nursery, signal.SIGKILL)
    wait_until(lambda: not is_alive(pids[0]))


def test_none_outlives_torchrun(launcher: Launcher) -> None:
    start(launcher)
    waiting = wait_until(lambda: parked(launcher))
    launcher.process.kill()
    launcher.process.wait()
    wait_until(lambda: not is_alive(waiting["pid"]))


def test_none_outlives_a_change_of_a_preloaded_module(launcher: Launcher) -> None:
    launcher.script("mine.py", "VALUE = 1\n")
    first = start(launcher, env={"RYZEN_PRELOAD": "mine"})
    waiting = wait_until(lambda: parked(launcher))
    kill(first)
    launcher.script("mine.py", "VALUE = 22\n")
    assert told(start(launcher, env={"RYZEN_PRELOAD": "mine"}))[0] != waiting["pid"]
    wait_until(lambda: not is_alive(waiting["pid"]))


def test_a_device_that_cannot_be_touched_is_no_reason_not_to_fork(launcher: Launcher) -> None:
    launcher.script("mine.py", (
        "import torch\n"
        "def is_available():\n"
        "    open('tried', 'w').close()\n"
        "    raise RuntimeError('no driver')\n"
        "torch.cuda.is_available = is_available\n"))  # fmt: skip
    first = start(launcher, env={"RYZEN_PRELOAD": "mine"})
    told(first)
    wait_until((launcher.folder / "tried").exists)
    kill(first)
    second = start(launcher, env={"RYZEN_PRELOAD": "mine"})
    assert told(second)[0]
    assert not parked(launcher)
    assert "cold" not in second.err.read_text()


def test_nobody_is_parked_unless_it_is_asked_for(launcher: Launcher) -> None:
    rank = launcher.start("warm", ["tell.py"])
    pid = told(rank)[0]
    other = start(launcher, local_rank=1)
    wait_until(lambda: parked(launcher, 1), "the same nursery has parked one since")
    (nursery,) = launcher.nurseries
    children = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
    assert sorted(map(int, children)) == sorted([pid, told(other)[0], parked(launcher, 1)["pid"]])


def test_another_word_is_said(launcher: Launcher) -> None:
    launcher.script("hello.py", "print('hello')")
    result = launcher.run("warm", ["hello.py"], env={"RYZEN_WARM": "hot"})
    assert result.out == "hello\n"
    assert "cold start: RYZEN_WARM is 'hot': fork or context is expected" in result.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_parked_process_has_its_gpus_context_and_nothing_else_of_it(
    launcher: Launcher, record_testsuite_property: Callable[[str, object], None]
) -> None:
    launcher.script("gpu.py", (
        "import json, os, time, torch\n"
        "cuda = torch.cuda\n"
        "found = [os.getpid(), cuda.is_initialized(), cuda.memory_reserved(), cuda.current_device()]\n"
        "began = time.monotonic()\n"
        "total = torch.ones(1000, device='cuda').sum().item()\n"
        "print(json.dumps([*found, time.monotonic() - began, cuda.initial_seed(), total]), flush=True)\n"
        "time.sleep(60)\n"))  # fmt: skip
    free = [torch.cuda.mem_get_info(0)[0]]
    first = launcher.start("warm", ["gpu.py"], env=CONTEXT)
    told(first)
    free.append(torch.cuda.mem_get_info(0)[0])
    waiting = wait_until(lambda: parked(launcher))
    free.append(torch.cuda.mem_get_info(0)[0])
    kill(first)
    second = launcher.start("warm", ["gpu.py"], env=CONTEXT)
    pid, is_initialized, reserved, device, touched_s, seed, total = told(second)
    assert (pid, is_initialized, reserved, device, total) == (waiting["pid"], True, 0, 0, 1000.0)
    assert seed != told(first)[5]
    record_testsuite_property("context_s", waiting["seconds"])
    record_testsuite_property("context_mib", (free[1] - free[2]) >> 20)
    record_testsuite_property("first_kernel_s", {"fork": told(first)[4], "parked": touched_s})
