"""Whatever happens to a lab, no process and no folder of it stays."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ryzen_lab import leftovers
from ryzen_lab.place import Place

WITH_A_DETACHED_GRANDCHILD = """
import os, subprocess, sys, time
from ryzen_lab.place import Place
place = Place()
middle = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
subprocess.run([sys.executable, "-c", middle], env={**os.environ, "RYZEN_LAB_ID": place.lab_id})
print(place.lab_id, place.folder, flush=True)
time.sleep(60)
"""


def test_a_lab_that_is_killed_leaves_no_process_and_no_folder() -> None:
    lab = subprocess.Popen([sys.executable, "-c", WITH_A_DETACHED_GRANDCHILD], stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    lab_id, folder = lab.stdout.readline().split()
    assert len(leftovers.processes_of(lab_id)) == 1
    lab.kill()
    lab.wait()
    deadline = time.monotonic() + 20
    while (leftovers.processes_of(lab_id) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leftovers.processes_of(lab_id) == []
    assert not Path(folder).exists()


def test_a_lab_that_ends_leaves_no_process_and_no_folder_and_its_reaper_is_gone() -> None:
    with Place() as place:
        environment = {**os.environ, leftovers.VARIABLE: place.lab_id}
        sleeper = subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)
        folder = place.folder
    assert sleeper.wait(timeout=10) == -signal.SIGKILL
    assert not folder.exists()
    assert leftovers.processes_of(place.lab_id) == []


def test_processes_of_another_lab_are_let_alone() -> None:
    sleeper = subprocess.Popen(["sleep", "60"], env={**os.environ, leftovers.VARIABLE: "one-lab"})
    try:
        with Place():
            pass
        leftovers.end_all("one-la")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_command_dies_with_the_lab_that_launched_it() -> None:
    launch = Path(leftovers.__file__).with_name("launch.py")
    parent = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-S', {str(launch)!r}, str(os.getpid()), 'sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    lab = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    descriptor = os.pidfd_open(int(lab.stdout.readline()))
    lab.kill()
    lab.wait()
    readable, _, _ = select.select([descriptor], [], [], 10)
    assert readable, "the command outlived its lab by ten seconds"
    os.close(descriptor)


def test_the_sockets_of_a_lab_fit_whatever_the_folder_for_temporary_files_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with Place() as place:
        assert len(str(place.folder / "n10" / "run" / "jobs" / "lab" / "rank-10.sock")) <= 107
    assert list(deep.iterdir()) == []
