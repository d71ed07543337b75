"""What the trials of this folder share: the command that a user types, and what must be true of its result."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ryzen_lab import leftovers

LAB = Path(sys.executable).parent / "ryzen-lab"
STEPS = 120
GRACE_S = 10.0
Trial = Callable[..., dict[str, Any]]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [str(LAB), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_for_good(folder: Path) -> list[str]:
    """The same after a moment: what forks ranks sees its torchrun end, and only then ends."""
    deadline = time.monotonic() + GRACE_S
    while (found := left_behind(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def left_behind(folder: Path) -> list[str]:
    """Processes and folders of a lab that worked in `folder`."""
    pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    marker = f"TMPDIR={folder}".encode()
    mine = [pid for pid in pids if any(each.startswith(marker) for each in leftovers.environment(pid))]
    return [f"pid {pid}" for pid in mine] + [str(each) for each in folder.glob("ryzen-lab-*")]


def finish(lab: subprocess.Popen[str], folder: Path, out: Path) -> dict[str, Any]:
    output, _ = lab.communicate(timeout=280)
    assert lab.returncode == 0, output
    assert left_for_good(folder) == []
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def assert_recovered(result: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert result["exit_code"] == 0, result
    assert result["false_deaths"] == []
    assert result["final_step"] == STEPS
    assert result["ranks_agree"]
    assert result["state_digest"] == undisturbed["state_digest"]


def assert_blamed(result: dict[str, Any], fault_class: str) -> None:
    fault, verdict = result["fault"], result["verdict"]
    assert verdict["class"] == fault_class
    assert verdict["ranks"] == [fault["rank"]]
    assert verdict["nodes"] == [fault["node"]]
