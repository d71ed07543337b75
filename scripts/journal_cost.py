"""What the log of inputs costs: `python scripts/journal_cost.py [--json]`.

A cluster of 2,048 nodes x 8 ranks that reports once a second. On the event loop: each report is put into the queue.
In a thread: it is serialised, compressed, written. Now and then: the state of the core is taken (on the event loop,
between two calls) and written. CPU time, not wall clock: other processes on the machine do not count. The disk is
that of --folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from core_cost import NODES, RANKS, record, steady_core, timed_ms, update  # type: ignore[import-not-found]  # beside this file

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.inputs.entries import Call, Update
from ryzen_coordinator.inputs.writer import WAITING_MAX, InputLog, segments
from ryzen_coordinator.settings import REPLAY_BYTES
from ryzen_protos import beat_columns

SECONDS, TICKS = 7, 20


def main() -> None:
    """Print microseconds an update, the share of a core, and what the disk is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk (default: the one of TMPDIR)")
    options = parser.parse_args()
    core = steady_core()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = {**logged(core, Path(folder)), **segment_begins(core)}
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, figure in found.items():
        sys.stdout.write(f"{name:60} {figure:10.2f}\n")


def logged(core: Core, folder: Path) -> dict[str, float]:
    """Medians over seconds of a steady cluster."""
    log = InputLog(folder, REPLAY_BYTES, "cost")
    log.start(CoreSettings(), [], 0.0, 1e9)
    log.flush()
    looped, written, sizes, waits = [], [], [], []
    for second in range(SECONDS):
        calls = [_call(node, second) for node in range(NODES)]
        calls += [Call(10.0 + second + number / TICKS, None, []) for number in range(TICKS)]
        before = sum(path.stat().st_size for path in segments(folder))
        loop_ms = write_ms = 0.0
        for first in range(0, len(calls), WAITING_MAX):
            part = calls[first : first + WAITING_MAX]
            loop_ms += timed_ms(lambda part=part: [log.add(call, core) for call in part])
            write_ms += timed_ms(log.flush)
        looped.append(loop_ms)
        written.append(write_ms)
        sizes.append(sum(path.stat().st_size for path in segments(folder)) - before)
        waits.append(_waited_ms(log, core, calls[:WAITING_MAX]))
    loop_ms, write_ms, size = statistics.median(looped), statistics.median(written), statistics.median(sizes)
    return {
        f"on the event loop, microseconds an update of {RANKS} ranks": loop_ms * 1e3 / NODES,
        "in a thread, microseconds an update": write_ms * 1e3 / NODES,
        f"share of a core at {NODES} updates a second, percent": (loop_ms + write_ms) / 10,
        "bytes on disk an update": size / NODES,
        f"minutes in {REPLAY_BYTES >> 20} MiB": REPLAY_BYTES / size / 60,
        f"a decision waits for {WAITING_MAX} calls at most, ms": statistics.median(waits),
    }


def segment_begins(core: Core) -> dict[str, float]:
    """The price of a new segment: of taking the state, and of writing it."""
    taken = snapshot.take(core)

    def write() -> None:
        json.dumps(snapshot.encode(taken))

    return {
        "a new segment: on the event loop, ms": _median_ms(lambda: snapshot.take(core)),
        "a new segment: in a thread, ms": _median_ms(write),
    }


def _call(node: int, second: int) -> Call:
    message = update(node, second)
    rows = []
    for rank in range(node * RANKS, (node + 1) * RANKS):  # what differs from rank to rank in a real one
        quiet_s = (node * 7919 + rank * 104729 + second * 31) % 1000 / 1e4
        age_s, loss = quiet_s * 1.37 + 0.01, 2.5 + quiet_s / 3
        rows.append(record(second)._replace(quiet_s=quiet_s, step_age_s=age_s, loss=loss))
    message.jobs[0].beats.CopyFrom(beat_columns.pack(rows))
    cause = Update(f"node-{node}", node + 1, message, (10 + second) * 10**9 + node * 487_963)
    return Call(10.0 + second + node / 2100, cause, [])


def _waited_ms(log: InputLog, core: Core, calls: list[Call]) -> float:
    for call in calls:
        log.add(call, core)
    started = time.perf_counter()
    log.flush()
    return (time.perf_counter() - started) * 1e3


def _median_ms(call: Callable[[], object]) -> float:
    taken: list[float] = [timed_ms(call) for _ in range(SECONDS)]
    return statistics.median(taken)


if __name__ == "__main__":
    main()
