"""A forked rank is what `python -u SCRIPT` would have been: every promise against one expectation, cold and warm.

What it inherits and how it ends; test_worker_runs_programs.py has what it runs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .launching import HOWS, Launcher, NotAllowed, is_alive, wait_until, words_of

TELL = '''
"""The doc."""
import faulthandler, json, os, resource, signal, subprocess, sys, threading
def read(path): return open("/proc/self/" + path).read()
facts = {
    "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path0": sys.path[0], "path": sys.path,
    "shadow": [p for p in sys.path if "shadow" in p],
    "name": __name__, "file": __file__, "doc": __doc__, "spec": repr(__spec__), "package": __package__,
    "globals": sorted(k for k in globals() if k.startswith("__")), "loader": type(__loader__).__name__,
    "main": sys.modules["__main__"].__dict__ is globals(), "cwd": os.getcwd(), "env": os.environ.get("TEST_ENV"),
    "rank": os.environ["RANK"], "pythonpath": os.environ.get("PYTHONPATH"),
    "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
    "variables": dict(os.environ), "umask": os.umask(0), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")},
    "affinity": sorted(os.sched_getaffinity(0)), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": os.sched_getscheduler(0), "core": read("coredump_filter").strip(),
    "oom": read("oom_score_adj").strip(),
    "cgroup": read("cgroup"), "namespaces": {n: os.readlink(f"/proc/self/ns/{n}") for n in os.listdir("/proc/self/ns")},
    "rights": [line for line in read("status").splitlines() if line.startswith(("Uid", "Gid", "Groups", "Cap"))],
    "faulthandler": faulthandler.is_enabled(), "pid": os.getpid(),
    "usr2": signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN, "int": signal.getsignal(signal.SIGINT).__name__,
    "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "mask": sorted(signal.pthread_sigmask(0, [])),
    "stdin": sys.stdin.read(), "leads": (os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()),
    "flags": repr(sys.flags), "warnings": sys.warnoptions, "executable": sys.executable,
    "threads": threading.active_count(), "native": threading.main_thread().native_id == os.getpid(),
    "stdout": (sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.encoding, sys.stdout.fileno()),
    "files": sorted(int(f) for f in os.listdir("/proc/self/fd") if int(f) < 200)[:3],
    "open": len([f for f in os.listdir("/proc/self/fd")]), "excepthook": sys.excepthook is sys.__excepthook__,
    "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
    "custom": sys.modules.get("sitecustomize") is not None,
    "inherited": sorted(subprocess.check_output(["env"], text=True).splitlines()),
}
print(json.dumps(facts))
'''

INHERITED: dict[str, Any] = {
    "env": {"TEST_ENV": "some värde", "RYZEN_WARM": "context"}, "umask": 0o027, "nice": 3, "affinity": [0],
    "stdin": "given\n", "limits": {"NOFILE": 512, "CORE": 4096, "STACK": 1 << 22}, "batch": True,
    "ignore": [signal.SIGUSR2],
    "files": {"/proc/self/oom_score_adj": "321", "/proc/self/coredump_filter": "0x7"},
}  # fmt: skip


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("like"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module", params=HOWS)
def how(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def both(launcher: Launcher) -> dict[str, dict[str, Any]]:
    """Cold, warm, by the process that the second has had parked beside it (standby.py), and forked from a nursery that
    was there before any rank (founding.py).
    """
    launcher.script("tell.py", TELL)
    launcher.run("warm", ["tell.py"])  # a nursery that has none of the things below: they come from the rank's own stub
    told = {how: launcher.run(how, ["tell.py", "a b", "--x"], **INHERITED).told for how in HOWS}
    (nursery,) = launcher.job.glob("nursery-*.json")
    waiting = wait_until(lambda: json.loads(nursery.read_text())["parked"].get("0"), "one is parked")
    told["parked"] = launcher.run("warm", ["tell.py", "a b", "--x"], **INHERITED).told
    (before,) = launcher.nurseries
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_alive(before), "that nursery has died")
    launcher.run("warm", ["--found", "tell.py"])
    told["founded"] = launcher.run("warm", ["tell.py", "a b", "--x"], **INHERITED).told
    assert before not in launcher.nurseries
    pids = {how: each.pop("pid") for how, each in told.items()}
    assert pids["parked"] == waiting["pid"]
    return told


@pytest.fixture(params=[*HOWS, "parked", "founded"])
def facts(both: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return both[request.param]


def expected(folder: Path) -> dict[str, Any]:
    return {
        "argv": ["tell.py", "a b", "--x"], "orig_argv": ["-u", "tell.py", "a b", "--x"], "path0": str(folder),
        "shadow": [],
        "name": "__main__", "file": str(folder / "tell.py"), "doc": "The doc.", "spec": "None", "package": None,
        "loader": "SourceFileLoader", "main": True, "cwd": str(folder), "env": "some värde", "rank": "0",
        "umask": 0o027, "nofile": [512, 512], "affinity": [0], "nice": 3, "scheduler": os.SCHED_BATCH,
        "core": "00000007",
        "oom": "321", "usr2": True, "int": "default_int_handler",
        "term": True, "mask": [], "stdin": "given\n", "leads": [True, True], "threads": 1, "native": True,
        "excepthook": True, "children": "", "files": [0, 1, 2], "open": 4,
    }  # fmt: skip


@pytest.mark.parametrize("fact", sorted(expected(Path())))
def test_a_rank_finds_what_torchrun_has_given_it(launcher: Launcher, facts: dict[str, Any], fact: str) -> None:
    assert facts[fact] == expected(launcher.folder)[fact]


@pytest.mark.parametrize("forked", ["warm", "parked", "founded"])
def test_nothing_else_that_a_script_can_ask_for_differs(both: dict[str, dict[str, Any]], forked: str) -> None:
    cold = both["cold"]
    assert {name: value for name, value in both[forked].items() if value != cold[name]} == {}


# ------------------------------------------------------------- ends

ENDS = {
    "returns": ("print('done')", 0),
    "sys.exit(3)": ("import sys; sys.exit(3)", 3),
    "sys.exit with words": ("import sys; sys.exit('sorry')", 1),
    "os._exit": ("import os; os._exit(7)", 7),
    "an exception": ("def f():\n    raise ValueError('wrong')\nf()", 1),
    "a chain of exceptions": ("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('x') from e", 1),
    "a syntax error": ("x = (", 1),
    "a hook of its own": ("import sys\nsys.excepthook = lambda a, b, c: print(a.__name__, c.tb_lineno)\n1/0", 1),
    "atexit": ("import atexit\natexit.register(print, 'bye')\nraise SystemExit(4)", 4),
    "a thread that it waits for": ("import threading\nthreading.Timer(.1, lambda: print('t')).start()", 0),
    "SIGKILL": ("import os; os.kill(os.getpid(), 9)", -9),
    "SIGTERM": ("import os; os.kill(os.getpid(), 15)", -15),
    "SIGSEGV": ("import ctypes; ctypes.string_at(0)", -11),
    "a stack after a time": ("import faulthandler, time\nfaulthandler.dump_traceback_later(.1, exit=True)\n"
        "time.sleep(30)", 1),
    "SIGABRT with its stack": ("import faulthandler, os; faulthandler.enable(); os.abort()", -6),
    "Ctrl-C": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(9)", -2),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_rank_ends_as_its_script_ends(launcher: Launcher, end: str) -> None:
    text, code = ENDS[end]
    launcher.script("end.py", text + "\n")
    cold, warm = (launcher.run(how, ["end.py"]) for how in HOWS)
    assert (cold.code, warm.code) == (code, code)
    assert warm.out == cold.out
    assert words_of(warm) == words_of(cold)


def test_a_script_that_is_not_there_is_said_by_python_itself(launcher: Launcher, how: str) -> None:
    result = launcher.run(how, ["nowhere.py"])
    assert result.code == 2
    assert "can't open file" in result.err.splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 15), ("SIGINT", 2), ("SIGHUP", 1), ("SIGUSR1", 10)])
def test_a_signal_to_torchruns_child_reaches_the_rank(launcher: Launcher, how: str, number: str, code: int) -> None:
    launcher.script("signals.py", (
        "import signal, sys, time\n"
        f"signal.signal(signal.{number}, lambda n, f: sys.exit(100 + n))\n"
        "print('ready')\ntime.sleep(30)\n"))  # fmt: skip
    started = launcher.start(how, ["signals.py"])
    started.says("ready")
    os.kill(started.pid, getattr(signal, number))
    assert started.wait().code == 100 + code


def test_a_rank_that_leaves_a_signal_alone_dies_of_it(launcher: Launcher, how: str) -> None:
    launcher.script("sleep.py", "import time\nprint('ready')\ntime.sleep(30)\n")
    started = launcher.start(how, ["sleep.py"])
    started.says("ready")
    os.killpg(started.pid, signal.SIGTERM)
    assert started.wait().code == -signal.SIGTERM


def test_a_core_is_written_where_the_limit_allows_it(launcher: Launcher, how: str) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("cores go elsewhere on this machine: kernel.core_pattern")
    launcher.script("abort.py", "import os; os.abort()")
    for limit, cores in ((0, 0), (resource.RLIM_INFINITY, 1)):
        folder = launcher.folder / f"cores {how} {limit}"
        folder.mkdir()
        launcher.run(how, ["../abort.py"], cwd=folder, limits={"CORE": limit})
        found = list(folder.iterdir())
        assert len(found) == cores
        for each in found:
            each.unlink()


def test_the_numa_policy_is_the_ranks_own(launcher: Launcher, how: str) -> None:
    launcher.script("policy.py", "print(open('/proc/self/numa_maps').readline().split()[1])")
    for policy in ("bind:0", "default", "interleave:0", "local"):
        try:
            result = launcher.run(how, ["policy.py"], numa=policy)
        except NotAllowed:
            pytest.skip("set_mempolicy is not allowed here")
        assert result.out == f"{policy}\n"
        assert "cold" not in result.err
