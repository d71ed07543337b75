"""Modules, processes of a rank's own, libraries, chance: each as `python -u SCRIPT` would have it, cold and warm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .launching import HOWS, Launcher, wait_until, words_of


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("runs"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module", params=HOWS)
def how(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


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


PICKLES = """
import dataclasses, inspect, io, json, pickle, torch, typing
@dataclasses.dataclass
class Batch:
    rows: "list[Row]"
class Row: pass
def local():
    class Inner: pass
    return Inner()
def refusal(thing):
    try: pickle.dumps(thing)
    except Exception as error: return [type(error).__name__, str(error)]
again = pickle.loads(pickle.dumps(Batch([Row()])))
buffer = io.BytesIO()
torch.save(Batch([torch.ones(2)]), buffer)
buffer.seek(0)
print(json.dumps([type(again) is Batch, type(again.rows[0]) is Row, Batch.__module__,
    torch.load(buffer, weights_only=False).rows[0].tolist(), refusal(local()), refusal(lambda: 0)[0],
    str(typing.get_type_hints(Batch)), inspect.getsource(Row), inspect.getfile(Batch)]))
"""


def test_what_the_script_defines_can_be_pickled_and_found(launcher: Launcher) -> None:
    launcher.script("pickles.py", PICKLES)
    cold, warm = (launcher.run(how, ["pickles.py"]).told for how in HOWS)
    assert warm == cold
    assert warm[:4] == [True, True, "__main__", [1.0, 1.0]]


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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
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


THREADS = """
import ctypes, json, numpy, re, torch
numpy.ones((2, 2)) @ numpy.ones((2, 2))
paths = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line}
names = ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads")
blas = [getattr(lib, n)() for lib in map(ctypes.CDLL, sorted(paths)) for n in names if hasattr(lib, n)]
words = re.findall(r"(\\w+_get_(?:max|num)_threads|hardware_concurrency)\\D*(\\d+)", torch.__config__.parallel_info())
print(json.dumps([torch.get_num_threads(), torch.get_num_interop_threads(), blas, words]))
"""


def test_libraries_take_as_many_threads_as_they_would(launcher: Launcher) -> None:
    launcher.script("threads.py", THREADS)
    for affinity in ([0], [0, 1]):
        for given in ({"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "2"}):
            cold, warm = (launcher.run(how, ["threads.py"], affinity=affinity, env=given).told for how in HOWS)
            assert warm == cold, (affinity, given)
            assert cold[2], "OpenBLAS is there"


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
