"""What forked ranks save: a job's first start, a rank's start, and memory. Cold and warm in turn, in one run.

The same torchrun and the same script (scripts/first_step.py) both times; warm has `--no-python ryzen-worker` before it.
Measured by a process of its own, `python -m ryzen_lab.bench.warm REPEAT`, which prints one JSON object: a nursery
belongs to the process that has started its stub, and ends with it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzen_lab.bench.document import conditions, spread
from ryzen_lab.bench.footprint import memory_mb
from ryzen_lab.cluster import clean_environment
from ryzen_lab.errors import LabError, NeverHappened
from ryzen_lab.leftovers import VARIABLE, processes_of
from ryzen_lab.place import Place
from ryzen_lab.scripts import first_step

HOWS = ("cold", "warm")
STARTS = 10
"""Of a single rank: cheap, and its spread matters."""

_START_S_MAX = 300.0
_BIN = Path(sys.executable).parent
_EMPTY, _IMPORTS = "", "import torch, torch.distributed, torch._dynamo\n"


def measure_apart(repeat: int) -> dict[str, Any]:
    """`measure` in a process of its own, as the header says. Raises LabError."""
    command = [sys.executable, "-m", __name__, str(repeat)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise LabError("nothing was measured")  # why stands above
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(repeat: int) -> dict[str, Any]:
    """Seconds and MB, by name and by cold or warm: lists in the order they were measured. Raises LabError."""
    found: dict[str, Any] = {"starts": STARTS, "repeat": repeat}
    with Place() as place:
        os.environ.update(clean_environment(), **{VARIABLE: place.lab_id})
        for ranks in (2, 8):
            jobs = [{how: start_job(place, ranks, how, number) for how in HOWS} for number in range(repeat)]
            for name in ("first_step_s", "pss_mb"):
                found[f"{name}_{ranks}"] = {how: [getattr(each[how], name) for each in jobs] for how in HOWS}
        for name, text in (("empty", _EMPTY), ("imports", _IMPORTS)):
            found[f"{name}_s"] = start_ranks(place, text)
    return found


@dataclass
class Started:
    """A job that has done its first step."""

    first_step_s: float
    """From torchrun's start to the last rank's first step."""
    pss_mb: float
    """Proportional set sizes of all ranks; warm: and of their stubs and the nursery."""


def start_job(place: Place, ranks: int, how: str, number: int) -> Started:
    folder = place.folder / f"{ranks}-{how}-{number}"
    run_dir = folder / "run"
    run_dir.mkdir(parents=True, mode=0o700)
    torchrun = [str(_BIN / "torchrun"), "--nnodes=1", f"--nproc-per-node={ranks}", "--rdzv-backend=c10d",
                "--rdzv-endpoint=127.0.0.1:0", "--rdzv-id=b"]  # fmt: skip
    worker = ["--no-python", str(_BIN / "ryzen-worker")] if how == "warm" else []
    environment = {**os.environ, "RYZEN_RUN_DIR": str(run_dir), "OMP_NUM_THREADS": "1"}
    began_s = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*torchrun, *worker, first_step.__file__, str(folder)], env=environment, stdout=log, stderr=log
        )
    notes = [folder / f"rank-{rank}" for rank in range(ranks)]
    _until(lambda: all(each.exists() for each in notes), process, folder / "log")
    said = [each.read_text().split() for each in notes]
    ours = {int(pid) for pid, _ in said}
    if how == "warm":  # all that is beside torchrun
        ours = {pid for pid in processes_of(place.lab_id) if pid != process.pid}
    pss_mb = sum(memory_mb(pid, "Pss") for pid in ours)
    (folder / "end").touch()
    process.wait()
    _until(lambda: not processes_of(place.lab_id), None, folder / "log")
    started = Started(max(float(at_s) for _, at_s in said) - began_s, pss_mb)
    sys.stderr.write(f"done: {ranks} ranks, {how}: {started.first_step_s:.2f} s, {started.pss_mb:.0f} MB\n")
    return started


def start_ranks(place: Place, text: str) -> dict[str, list[float]]:
    """Seconds from exec to the first line after `text`, one rank at a time below this process. A nursery is there."""
    folder = place.folder / f"starts-{len(text)}"
    (folder / "run").mkdir(parents=True, mode=0o700)
    script = folder / "script.py"
    script.write_text(text + "import time, sys\nsys.stdout.write(str(time.monotonic()))\n")
    rank = {"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "b", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **rank, "RYZEN_RUN_DIR": str(folder / "run")}
    commands = {"cold": [sys.executable, "-u"], "warm": [str(_BIN / "ryzen-worker")]}

    def took_s(how: str) -> float:
        began_s = time.monotonic()
        done = subprocess.run(
            [*commands[how], str(script)], env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
        return float(done.stdout) - began_s

    took_s("warm")  # founds the nursery
    took_s("cold")  # warms the page cache
    pairs = [{how: took_s(how) for how in HOWS} for _ in range(STARTS)]
    return {how: [each[how] for each in pairs] for how in HOWS}


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline_s = time.monotonic() + _START_S_MAX
    while not condition():
        if time.monotonic() > deadline_s or (process is not None and process.poll() is not None):
            raise NeverHappened("a job's first step, or its end", _START_S_MAX, log.read_text()[-2000:])
        time.sleep(0.01)


def table(found: dict[str, Any], command: str) -> str:
    """Medians with least and most, and the ratio of the medians."""
    rows = [
        ("first step of a job of 2 ranks, s", found["first_step_s_2"], 2),
        ("first step of a job of 8 ranks, s", found["first_step_s_8"], 2),
        ("a rank's first line, s", found["empty_s"], 3),
        ("a rank's first line after `import torch, torch.distributed, torch._dynamo`, s", found["imports_s"], 3),
        ("memory of 2 ranks after the first step, MB", found["pss_mb_2"], 0),
        ("memory of 8 ranks after the first step, MB", found["pss_mb_8"], 0),
    ]
    lines = [
        "## Ranks that are forked: the first start, and memory",
        "",
        conditions(command),
        f"Fresh interpreters and forked ranks in turn, {found['repeat']} jobs of each, {found['starts']} starts of a",
        "single rank of each whose nursery is there already; median (least to most). Stock torchrun with its own",
        "rendezvous, one node; from torchrun's exec to the last rank's first optimizer step (DDP, gloo), the nursery's",
        "imports included. Memory is the sum of proportional set sizes; forked: of ranks, stubs and nursery together.",
        "",
        "| | fresh interpreters | forked | ratio |",
        "|---|---|---|---|",
    ]
    for name, values, places in rows:
        ratio = statistics.median(values["warm"]) / statistics.median(values["cold"])
        cells = [spread(values[how], places) for how in HOWS]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    try:
        found = measure(int(sys.argv[1]))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    print(json.dumps(found))  # noqa: T201 - its output is its result


if __name__ == "__main__":
    main()
