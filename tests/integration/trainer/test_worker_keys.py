"""What is read while modules load is honoured in each generation, and another interpreter has a nursery of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_trainer.worker.place import READ_AT_LOAD, READ_LATER, Place

from .launching import HOWS, Launcher, wait_until

EFFECTS = """
import ctypes, json, locale, os, sys, tempfile, time, warnings
import torch
try: import only_there
except ImportError: only_there = None
assert_runs = False
try: assert False
except AssertionError: assert_runs = True
warning_raises = False
try: warnings.warn("an example")
except UserWarning: warning_raises = True
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
with open("/proc/self/maps") as file: maps = file.read()
print(json.dumps({
    "PYTHONHASHSEED": hash("a rank"), "PYTHONPATH": only_there and only_there.VALUE, "PYTHONOPTIMIZE": assert_runs,
    "PYTHONWARNINGS": warning_raises, "PYTHONUTF8": sys.flags.utf8_mode,
    "PYTHONDONTWRITEBYTECODE": sys.dont_write_bytecode, "PYTHONINTMAXSTRDIGITS": sys.get_int_max_str_digits(),
    "OMP_NUM_THREADS": torch.get_num_threads(), "LD_PRELOAD": "libanl" in maps, "TZ": time.tzname,
    "LC_ALL": locale.setlocale(locale.LC_CTYPE), "TMPDIR": tempfile.gettempdir(),
    "MALLOC_PERTURB_": ctypes.string_at(libc.malloc(4096), 64)[32:].hex(),
    "PYTORCH_JIT": bool(torch.jit._state._enabled), "HOME": os.path.expanduser("~"),
    "TORCH_HOME": torch.hub._get_torch_home(), "parent": os.getppid(),
}))
"""


def generations(folder: Path) -> list[dict[str, str]]:
    """Two environments that differ in every variable whose effect can be seen."""
    for each in ("one", "two"):
        (folder / each).mkdir(exist_ok=True)
    (folder / "two" / "only_there.py").write_text("VALUE = 2\n")
    first = {
        "PYTHONHASHSEED": "1", "PYTHONPATH": "one", "PYTHONOPTIMIZE": "", "PYTHONWARNINGS": "error",
        "PYTHONUTF8": "0", "PYTHONDONTWRITEBYTECODE": "", "PYTHONINTMAXSTRDIGITS": "1000", "OMP_NUM_THREADS": "1",
        "LD_PRELOAD": "", "TZ": "UTC", "LC_ALL": "C.UTF-8", "TMPDIR": str(folder / "one"), "MALLOC_PERTURB_": "1",
        "PYTORCH_JIT": "1", "HOME": "/one", "TORCH_HOME": "/one/torch",
    }  # fmt: skip
    second = {
        "PYTHONHASHSEED": "2", "PYTHONPATH": "two", "PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "ignore",
        "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONINTMAXSTRDIGITS": "2000", "OMP_NUM_THREADS": "2",
        "LD_PRELOAD": "libanl.so.1", "TZ": "Europe/Berlin", "LC_ALL": "C", "TMPDIR": str(folder / "two"),
        "MALLOC_PERTURB_": "2", "PYTORCH_JIT": "0", "HOME": "/two", "TORCH_HOME": "/two/torch",
    }  # fmt: skip
    assert first.keys() == second.keys()
    return [first, second]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


def test_every_variable_that_is_read_at_load_is_honoured_in_each_generation(launcher: Launcher) -> None:
    launcher.script("effects.py", EFFECTS)
    environments = generations(launcher.folder)
    told = {how: [launcher.run(how, ["effects.py"], env=each).told for each in environments] for how in HOWS}
    nurseries = [each.pop("parent") for each in told["warm"]]
    for each in told["cold"]:
        del each["parent"]
    assert told["warm"] == told["cold"]
    unseen = [name for name in environments[0] if told["cold"][0][name] == told["cold"][1][name]]
    assert unseen == [], "each of them has an effect"
    assert sorted(nurseries) == sorted(launcher.nurseries), "none of the ranks was started cold"
    again = launcher.run("warm", ["effects.py"], env=environments[0]).told
    assert again["parent"] == nurseries[0], "the first one's nursery is still there"


@pytest.mark.parametrize("name", READ_AT_LOAD)
def test_a_variable_that_is_read_at_load_is_part_of_the_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key(tmp_path, monkeypatch, name if name.isalpha() else f"{name}ANY", value) for value in "12"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("name", [*READ_LATER, "RANK", "MASTER_PORT", "NCCL_DEBUG", "MY_OWN"])
def test_a_variable_that_is_read_later_is_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key(tmp_path, monkeypatch, name, "1") == key(tmp_path, monkeypatch, name, "2")


def key(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> bytes:
    with monkeypatch.context() as patch:
        for each, given in {"RYZEN_RUN_DIR": str(folder), "TORCHELASTIC_RUN_ID": "job", "LOCAL_RANK": "0"}.items():
            patch.setenv(each, given)
        patch.setenv(name, value)
        return Place(1, 2, "").key


def test_the_environment_of_this_generation_reaches_a_rank_of_the_same_nursery(launcher: Launcher) -> None:
    launcher.script("environ.py", "import json, os\nprint(json.dumps([os.getppid(), dict(os.environ)]))\n")
    environments = [{"MASTER_PORT": "1", "GONE": "x"}, {"MASTER_PORT": "2", "TORCHELASTIC_RESTART_COUNT": "1"}]
    told = [{how: launcher.run(how, ["environ.py"], env=each).told for how in HOWS} for each in environments]
    assert [each["warm"][1] for each in told] == [each["cold"][1] for each in told]
    assert {each["warm"][0] for each in told} == set(launcher.nurseries)


def test_another_interpreter_has_a_nursery_of_its_own(launcher: Launcher, tmp_path: Path) -> None:
    """The same packages in another virtual environment."""
    own = tmp_path / "other"
    venv.create(own, symlinks=True)
    pure = Path(sysconfig.get_path("purelib", vars={"base": str(own)}))
    (pure / "same.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    worker = own / "bin" / "ryzen-worker"
    worker.write_text(f"#!{own}/bin/python\nfrom ryzen_trainer.worker.stub import main\nmain()\n")
    worker.chmod(0o755)
    script = "import json, os, sys; print(json.dumps([os.getppid(), sys.executable, sys.prefix]))"
    first = launcher.run("warm", [launcher.script("who.py", script)]).told
    streams = {name: str(launcher.folder / f"other.{name}") for name in ("out", "err")}
    given = launcher.folder / "1.in"
    env = {"LOCAL_RANK": "0", "RANK": "0", "TORCHELASTIC_RUN_ID": "job"}
    pid = launcher.ask(start=[str(worker), "who.py"], env=env, cwd=str(tmp_path), **{"in": str(given)}, **streams)[
        "pid"
    ]
    assert launcher.ask(wait=pid)["code"] == 0, Path(streams["err"]).read_text()
    second = json.loads(Path(streams["out"]).read_text())
    assert second[1:] == [str(own / "bin" / "python"), str(own)]
    assert first[1] == sys.executable
    assert {first[0], second[0]} == set(launcher.nurseries)
    assert first[0] != second[0]


def test_a_rank_in_another_namespace_starts_cold(launcher: Launcher) -> None:
    wrapper = ["unshare", "--uts"]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare is not allowed here")
    launcher.script("where.py", "import os; print(os.readlink('/proc/self/ns/uts'))")
    here, there = (launcher.run("warm", ["where.py"], program=each) for each in ([], wrapper))
    assert there.out != here.out
    assert "cold start: the nursery has another uts namespace" in there.err


def test_a_rank_in_another_control_group_starts_cold(launcher: Launcher) -> None:
    try:
        group = own_group(f"ryzen-test-{os.getpid()}")
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        launcher.script("where.py", "print(open('/proc/self/cgroup').read())")
        launcher.run("warm", ["where.py"])
        there = launcher.run("warm", ["where.py"], files={str(group / "cgroup.procs"): "0"})
        assert group.name in there.out
        assert "cold start: the nursery has another cgroup" in there.err
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def own_group(name: str) -> Path:
    """A fresh control group below some hierarchy. Raises OSError where there is none that can be written."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        parent = Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))
        if controllers not in {"", "pids", "freezer"} or not (parent / "cgroup.procs").exists():
            continue
        (parent / name).mkdir()
        return parent / name
    raise OSError("no hierarchy to use")
