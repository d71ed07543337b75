"""A forked rank is what `python -u SCRIPT` would have been: every promise against one expectation, cold and warm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .launching import HOWS, Launcher, Result, wait_until

TELL = '''
"""The doc."""
import json, os, resource, signal, sys, threading
facts = {
    "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path0": sys.path[0],
    "shadow": [p for p in sys.path if "shadow" in p],
    "name": __name__, "file": __file__, "doc": __doc__, "spec": repr(__spec__), "package": __package__,
    "globals": sorted(k for k in globals() if k.startswith("__")), "loader": type(__loader__).__name__,
    "main": sys.modules["__main__"].__dict__ is globals(), "cwd": os.getcwd(), "env": os.environ.get("TEST_ENV"),
    "rank": os.environ["RANK"], "pythonpath": os.environ.get("PYTHONPATH"),
    "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
    "variables": sorted(os.environ), "umask": os.umask(0), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "affinity": sorted(os.sched_getaffinity(0)), "nice": os.getpriority(os.PRIO_PROCESS, 0),
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
}
print(json.dumps(facts))
'''

INHERITED: dict[str, Any] = {
    "env": {"TEST_ENV": "some värde"}, "umask": 0o027, "nofile": 512, "nice": 3, "affinity": [0], "stdin": "given\n",
    "ignore": [signal.SIGUSR2],
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
    launcher.script("tell.py", TELL)
    launcher.run("warm", ["tell.py"])  # a nursery that has none of the things below: they come from the rank's own stub
    return {how: launcher.run(how, ["tell.py", "a b", "--x"], **INHERITED).told for how in HOWS}


@pytest.fixture
def facts(both: dict[str, dict[str, Any]], how: str) -> dict[str, Any]:
    return both[how]


def expected(folder: Path) -> dict[str, Any]:
    return {
        "argv": ["tell.py", "a b", "--x"], "orig_argv": ["-u", "tell.py", "a b", "--x"], "path0": str(folder),
        "shadow": [],
        "name": "__main__", "file": str(folder / "tell.py"), "doc": "The doc.", "spec": "None", "package": None,
        "loader": "SourceFileLoader", "main": True, "cwd": str(folder), "env": "some värde", "rank": "0",
        "umask": 0o027, "nofile": [512, 512], "affinity": [0], "nice": 3, "usr2": True, "int": "default_int_handler",
        "term": True, "mask": [], "stdin": "given\n", "leads": [True, True], "threads": 1, "native": True,
        "excepthook": True, "children": "", "files": [0, 1, 2], "open": 4,
    }  # fmt: skip


@pytest.mark.parametrize("fact", sorted(expected(Path())))
def test_a_rank_finds_what_torchrun_has_given_it(launcher: Launcher, facts: dict[str, Any], fact: str) -> None:
    assert facts[fact] == expected(launcher.folder)[fact]


def test_nothing_else_that_a_script_can_ask_for_differs(both: dict[str, dict[str, Any]]) -> None:
    cold, warm = both["cold"], both["warm"]
    assert {name: value for name, value in warm.items() if value != cold[name]} == {}


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


def words_of(result: Result) -> str:
    """Standard error without what only faulthandler knows: addresses, and how many modules are loaded."""
    lines = [
        line for line in result.err.splitlines() if not line.startswith(("ryzen-worker: the nursery", "Extension"))
    ]
    kept = (line for line in lines if "newborn.py" not in line and "nursery.py" not in line)
    return "\n".join("Thread" if "0x" in line else line for line in kept).strip()


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


# ------------------------------------------------------------- modules, processes, chance


def test_a_module_is_run_as_one(launcher: Launcher, how: str) -> None:
    launcher.script("pack/__init__.py", "")
    launcher.script("pack/other.py", "VALUE = 5\n")
    launcher.script("pack/run.py", (
        "import json, sys\nfrom .other import VALUE\n"
        "print(json.dumps([sys.argv[1:], sys.argv[0][-11:], sys.path[0], __name__, __package__, __spec__.name, VALUE,\n"
        "    sys.orig_argv[1:]]))\n"))  # fmt: skip
    result = launcher.run(how, ["-m", "pack.run", "--y"])
    orig = ["-u", "-m", "pack.run", "--y"]
    folder = str(launcher.folder)
    assert result.told == [["--y"], "pack/run.py", folder, "__main__", "pack", "pack.run", 5, orig]


def test_a_module_that_is_not_there_is_said_as_python_says_it(launcher: Launcher) -> None:
    cold, warm = (launcher.run(how, ["-m", "no.such"]) for how in HOWS)
    assert (warm.code, words_of(warm)) == (cold.code, words_of(cold))


MULTI = """
import multiprocessing as mp, sys, os
class Thing:
    def __init__(self, n): self.n = n
def work(thing, queue):
    queue.put((thing.n + 1, __name__, os.environ["RANK"], sys.argv))
if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=work, args=(Thing(4), queue))
    process.start()
    import json
    answer = queue.get(timeout=30)
    process.join()
    print(json.dumps([answer, process.exitcode]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_its_own_find_main(launcher: Launcher, how: str, method: str) -> None:
    launcher.script("multi.py", MULTI)
    name = "__main__" if method == "fork" else "__mp_main__"
    assert launcher.run(how, ["multi.py", method]).told == [[5, name, "0", ["multi.py", method]], 0]


LOADER = """
import json, os, sys, torch
from torch.utils.data import DataLoader, Dataset
class Squares(Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return torch.tensor([i * i, os.getpid()])
if __name__ == "__main__":
    loader = DataLoader(Squares(), num_workers=2, multiprocessing_context=sys.argv[1])
    seen = [row for batch in loader for row in batch.tolist()]
    print(json.dumps([[a for a, _ in seen], len({p for _, p in seen}), os.getpid() in {p for _, p in seen}]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers_work(launcher: Launcher, how: str, method: str) -> None:
    launcher.script("loader.py", LOADER)
    assert launcher.run(how, ["loader.py", method]).told == [[0, 1, 4, 9, 16, 25, 36, 49], 2, False]


RECORD = """
from torch.distributed.elastic.multiprocessing.errors import record
@record
def main(): raise RuntimeError("recorded")
main()
"""


def test_torchelastics_error_file_is_written(launcher: Launcher, how: str, tmp_path: Path) -> None:
    launcher.script("record.py", RECORD)
    result = launcher.run(how, ["record.py"], env={"TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")})
    assert result.code == 1
    assert "RuntimeError: recorded" in (tmp_path / "error.json").read_text()


CHANCE = """
import json, multiprocessing, random, tempfile, uuid
import numpy, torch
print(json.dumps([random.random(), float(numpy.random.rand()), float(torch.rand(1)), torch.initial_seed(),
    uuid.uuid4().hex, multiprocessing.current_process().authkey.hex(), next(tempfile._get_candidate_names())]))
"""


def test_no_two_ranks_share_a_source_of_chance(launcher: Launcher, how: str) -> None:
    launcher.script("chance.py", CHANCE)
    first, second = (launcher.run(how, ["chance.py"]).told for _ in range(2))
    assert [a == b for a, b in zip(first, second, strict=True)] == [False] * 7


def test_a_seed_gives_the_same_numbers(launcher: Launcher) -> None:
    launcher.script(
        "seed.py",
        "import json, random, torch\nrandom.seed(1); torch.manual_seed(1)\n"
        "product = torch.randn(64, 64).matmul(torch.randn(64, 64))\n"
        "print(json.dumps([random.random(), torch.rand(3).tolist(), product.sum().item()]))\n",
    )
    cold, warm = (launcher.run(how, ["seed.py"]).told for how in HOWS)
    assert warm == cold


def test_torch_takes_as_many_threads_as_it_would(launcher: Launcher) -> None:
    launcher.script("threads.py", "import torch, json; print(json.dumps(torch.get_num_threads()))")
    for affinity in ([0], [0, 1]):
        cold, warm = (
            launcher.run(how, ["threads.py"], affinity=affinity, env={"OMP_NUM_THREADS": ""}).told for how in HOWS
        )
        assert warm == cold


def test_the_environments_sitecustomize_runs_once_in_the_rank(launcher: Launcher, how: str, tmp_path: Path) -> None:
    custom = 'import os\nprint("custom", os.environ["RANK"])\nos.environ["CUSTOM"] = "yes"\n'
    (tmp_path / "sitecustomize.py").write_text(custom)
    launcher.script("custom.py", "import os; print(os.environ['CUSTOM'])")
    result = launcher.run(how, ["custom.py"], env={"PYTHONPATH": str(tmp_path), "RANK": "6"})
    lines = result.out.splitlines()[-2:]  # the stub is an interpreter too
    assert lines == ["custom 6", "yes"]


def test_a_rank_without_standard_input_has_none(launcher: Launcher, how: str) -> None:
    launcher.script("none.py", "import sys, json; print(json.dumps(sys.stdin is None))")
    assert launcher.run(how, ["none.py"], close=[0]).told is True


def test_what_a_rank_prints_is_there_at_once(launcher: Launcher, how: str) -> None:
    launcher.script("prints.py", "import time\nprint('now', end='')\ntime.sleep(30)\n")
    started = launcher.start(how, ["prints.py"])
    wait_until(lambda: "now" in started.out.read_text())
    os.killpg(started.pid, signal.SIGTERM)
    started.wait()


def test_a_long_environment_and_many_arguments_arrive(launcher: Launcher, how: str) -> None:
    launcher.script("long.py", "import os, sys, json; print(json.dumps([len(os.environ['LONG']), len(sys.argv)]))")
    result = launcher.run(how, ["long.py", *map(str, range(2000))], env={"LONG": "x" * 120_000})
    assert result.told == [120_000, 2001]


def test_a_rank_starts_sooner_than_its_imports_take(launcher: Launcher) -> None:
    launcher.script("torch_only.py", "import torch, torch._dynamo\n")
    launcher.run("warm", ["torch_only.py"])
    took = {}
    for how in HOWS:
        began = time.monotonic()
        launcher.run(how, ["torch_only.py"])
        took[how] = time.monotonic() - began
    assert took["warm"] < took["cold"]
