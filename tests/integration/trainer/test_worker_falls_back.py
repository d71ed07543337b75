"""When a rank cannot be forked it starts all the same, cold, with one line that says why."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .launching import WORKER, Launcher, Result, is_alive, wait_until

HELLO = "import os, sys\nprint('hello', os.environ['RANK'], sys.argv[1:])\nraise SystemExit(3)\n"


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    launcher.script("hello.py", HELLO)
    yield launcher
    launcher.close()


def is_cold(result: Result, why: str) -> bool:
    """It ran as ever, and said one line."""
    assert (result.out, result.code) == ("hello 0 ['--a']\n", 3), result.err
    (line,) = [each for each in result.err.splitlines() if each.startswith("ryzen-worker: cold start: ")]
    assert why in line
    return True


def hello(launcher: Launcher, **env: str) -> Result:
    return launcher.run("warm", ["hello.py", "--a"], env=env)


def test_a_rank_that_is_told_to_starts_cold(launcher: Launcher) -> None:
    assert is_cold(hello(launcher, RYZEN_COLD="1"), "RYZEN_COLD is set")
    assert not launcher.nurseries


def test_eight_workers_at_once_found_one_nursery(launcher: Launcher) -> None:
    launcher.script("parent.py", "import os; print(os.getppid())")
    batch = [launcher.start("warm", ["parent.py"], local_rank=each) for each in range(8)]
    results = [each.wait() for each in batch]
    assert {each.out for each in results} == {f"{launcher.nurseries[0]}\n"}
    assert len(launcher.nurseries) == 1
    notes = [line for each in results for line in each.err.splitlines() if "has imported" in line]
    assert len(notes) == 1
    assert not any("cold" in each.err for each in results)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('not today')", "mine cannot be imported beforehand: RuntimeError: not today"),
        ("import sys; sys.exit(1)", "mine cannot be imported beforehand: SystemExit"),
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", "has 2 threads"),
        ("import socket; kept = socket.socket()", "preloaded modules have opened 1 sockets"),
        ("import subprocess; kept = subprocess.Popen(['sleep', '60'])", "a preloaded module has started process"),
    ],
)  # fmt: skip
def test_a_module_that_makes_a_fork_unsafe_makes_a_cold_start(launcher: Launcher, source: str, why: str) -> None:
    launcher.script("mine.py", source)
    assert is_cold(hello(launcher, RYZEN_PRELOAD="mine"), why)
    assert is_cold(hello(launcher, RYZEN_PRELOAD="mine"), why), "and again, without another try"
    subprocess.run(["pkill", "-P", str(launcher.nurseries[0])], check=False)  # the preloaded module's sleep


def test_an_open_device_of_a_gpu_forbids_a_fork() -> None:
    source = (
        "from ryzen_trainer.worker import preload\n"
        "print(repr(preload.why_not_fork(0, set())))\n"
        "preload.DEVICES = ('/dev/zero',)\n"
        "kept = open('/dev/zero')\n"
        "print(repr(preload.why_not_fork(0, set())))\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["''", "'a preloaded module has opened /dev/zero'"]


def test_a_nursery_without_torch_says_so(launcher: Launcher) -> None:
    launcher.script("torch/__init__.py", "raise ImportError('no torch here')")
    result = hello(launcher)
    assert is_cold(result, "torch cannot be imported beforehand: ImportError: no torch here")


def test_a_name_that_is_no_module_is_said(launcher: Launcher) -> None:
    assert is_cold(hello(launcher, RYZEN_PRELOAD="a b"), "'a b' is no module's name")


def test_modules_of_the_users_are_there_before_the_script_and_found_as_from_it(launcher: Launcher) -> None:
    launcher.script("mine.py", "import os\npid = os.getpid()\n")
    launcher.script("uses.py", "import sys, os, json\nbefore = 'mine' in sys.modules\nimport mine\n"
        "print(json.dumps([before, mine.pid == os.getppid(), sys.path.count(os.getcwd())]))")  # fmt: skip
    result = launcher.run("warm", ["uses.py"], env={"RYZEN_PRELOAD": "mine, json.tool"})
    assert result.told == [True, True, 1]
    assert "has imported torch, mine, json.tool in" in result.err


def test_a_module_that_has_changed_is_imported_by_a_fresh_nursery(launcher: Launcher) -> None:
    launcher.script("mine.py", "VALUE = 1\n")
    launcher.script(
        "uses.py", "import mine, time, sys\nprint(mine.VALUE, flush=True)\ntime.sleep(float(sys.argv[1]))\n"
    )
    env = {"RYZEN_PRELOAD": "mine"}
    running = launcher.start("warm", ["uses.py", "30"], env=env)
    running.says("1")
    (first,) = launcher.nurseries
    launcher.script("mine.py", "VALUE = 22\n")
    results = [launcher.start("warm", ["uses.py", "0"], env=env, local_rank=each) for each in (1, 2)]
    assert [each.wait().out for each in results] == ["22\n", "22\n"]
    assert launcher.nurseries != [first]
    os.kill(running.pid, 9)
    running.wait()
    wait_until(lambda: not is_alive(first), "the old nursery ends with its last rank")


def test_another_environment_at_load_time_gets_another_nursery(launcher: Launcher) -> None:
    launcher.script("parent.py", "import os, torch; print(os.getppid())")
    first, second = (launcher.run("warm", ["parent.py"], env={"OMP_NUM_THREADS": each}).out for each in "12")
    assert first != second
    assert launcher.run("warm", ["parent.py"], env={"OMP_NUM_THREADS": "1", "MASTER_PORT": "5"}).out == first


def test_a_script_that_is_a_folder_is_for_a_fresh_interpreter(launcher: Launcher) -> None:
    launcher.script("app/__main__.py", HELLO)
    assert is_cold(launcher.run("warm", ["app", "--a"]), "IsADirectoryError")


def test_a_run_directory_that_cannot_be_used_is_said(launcher: Launcher) -> None:
    assert is_cold(hello(launcher, RYZEN_RUN_DIR="/proc/nowhere"), "No such file or directory")
    assert is_cold(hello(launcher, RYZEN_RUN_DIR=str(launcher.folder / ("x" * 100))), "is longer than 107 bytes")


def test_a_nursery_that_does_not_answer_properly_is_not_trusted(launcher: Launcher) -> None:
    """Its socket taken by something else that holds the lock: garbage, then silence at the end of the connection."""
    launcher.run("warm", ["hello.py", "--a"])
    (nursery,) = launcher.nurseries
    os.kill(nursery, 9)
    (path,) = launcher.job.glob("nursery-*.sock")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        started = launcher.start("warm", ["hello.py", "--a"])
        channel, _ = listener.accept()
        channel.sendall(b"\xff\xff\xff\xff garbage")
        assert is_cold(started.wait(), "is longer than")
        channel.close()
    path.unlink()
    path.with_suffix(".lock").unlink()
    path.with_suffix(".json").unlink()


def test_outside_torchrun_the_script_runs_all_the_same(launcher: Launcher) -> None:
    done = subprocess.run([WORKER, "hello.py", "--a"], cwd=launcher.folder, capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "RANK": "0"})  # fmt: skip
    assert is_cold(Result(done.returncode, done.stdout, done.stderr), "torchrun has not started this process")


@pytest.mark.parametrize(
    ("words", "said"), [([], "nothing to run"), (["-m"], "nothing to run"), (["-x"], "-x is not allowed")]
)
def test_wrong_words_are_one_line(words: list[str], said: str) -> None:
    done = subprocess.run([WORKER, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ryzen-worker: {said}")
    assert done.stderr.count("\n") == 1


def test_the_stub_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ryzen_trainer.worker.stub; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {"torch", "numpy", "pydantic", "grpc", "typing", "dataclasses", "asyncio", "subprocess", "json", "ctypes"}
    assert heavy.isdisjoint(done.stdout.split())
