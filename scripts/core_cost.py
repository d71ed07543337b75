"""What the coordinator's decisions cost: `python scripts/core_cost.py [--json]`.

One sweep over 131,072 ranks, and a cluster of 2,048 nodes x 8 ranks that reports once a second: messages decoded,
decided on, ticked 20 times. CPU time, not wall clock: other processes on the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from time import process_time_ns

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import Hello, JobSeen, NodeReport, Shape
from ryzen_coordinator.core.gaps import Gaps
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.server import convert
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb

SECTIONS = ("forward", "backward", "optimizer", "")
NODES, RANKS, SWEPT_RANKS, REPEATS, TICKS = 2048, 8, 131_072, 7, 20
WHOLE_EVERY_S = 10


def main() -> None:
    """Print milliseconds of CPU time, and the share of a core that a second of reports takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    decode_ms, decide_ms, tick_ms = second_of_reports()
    found = {
        f"sweep over {SWEPT_RANKS} ranks, ms": sweep_ms(),
        f"decode the reports of {NODES} nodes, ms": decode_ms,
        "decide on them, ms": decide_ms,
        f"{TICKS} ticks, ms": tick_ms,
        "share of a core, percent": (decode_ms + decide_ms + tick_ms) / 10,
    }
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, figure in found.items():
        sys.stdout.write(f"{name:42} {figure:8.2f}\n")


def sweep_ms() -> float:
    """Median of one look at all ranks for stalls."""
    table = ProgressTable(1, ["node-0"])
    table.reserve(SWEPT_RANKS)
    table.alive[:] = True
    table.node[:] = 0
    gaps = Gaps({"": 0.5}, {"": 0.0})
    return statistics.median(timed_ms(lambda: table.sweep(gaps, set(), CoreSettings(), 1.0)) for _ in range(REPEATS))


def second_of_reports() -> tuple[float, float, float]:
    """Median over seconds of a steady cluster: decoding, deciding, ticking."""
    core = steady_core()
    taken = []
    for second in range(REPEATS):
        raw = [update(node, second).SerializeToString() for node in range(NODES)]
        reports: list[NodeReport] = []

        def decode(raw: list[bytes] = raw, reports: list[NodeReport] = reports) -> None:
            for node, message in enumerate(raw):
                reports.append(convert.report(f"node-{node}", node + 1, pb.NodeUpdate.FromString(message), 0))

        def decide(reports: list[NodeReport] = reports, now_s: float = 10.0 + second) -> None:
            for report in reports:
                core.step(report, now_s)

        def tick(now_s: float = 10.0 + second) -> None:
            for number in range(TICKS):
                core.tick(now_s + number / TICKS)

        taken.append((timed_ms(decode), timed_ms(decide), timed_ms(tick)))
    decoded, decided, ticked = zip(*taken, strict=True)
    return statistics.median(decoded), statistics.median(decided), statistics.median(ticked)


def steady_core() -> Core:
    """A core whose one job runs on all nodes."""
    core = Core(CoreSettings(), now_s=0.0, unix_offset_s=1e9)
    shape = Shape(NODES, NODES, RANKS)
    for node in range(NODES):
        name = f"node-{node}"
        job = JobSeen("run", "me", handler="joining", join_id=1, store=("host", 1), shape=shape, torchrun_pid=7)
        core.step(NodeReport(name, node + 1, 1, Hello(name, node_rank=node), (job,)), 1.0)
    core.tick(1.1)
    return core


def update(node: int, second: int) -> pb.NodeUpdate:
    """What an agent with eight stepping ranks says: the whole job every ten seconds, else what is new."""
    message = pb.NodeUpdate(seq=second + 2)
    if second and node % WHOLE_EVERY_S != second % WHOLE_EVERY_S:
        told = max((each for each in range(second) if node % WHOLE_EVERY_S == each % WHOLE_EVERY_S), default=0)
        job = message.jobs.add(run_id="run", user="me", as_of=told + 2)
        job.beats.CopyFrom(beat_columns.pack([record(second)] * RANKS))
        return message
    job = message.jobs.add(
        run_id="run", user="me", handler=pb.ObservedJob.RUNNING, generation=1, seen_generation=1, join_id=1,
        torchrun_pid=7, shape=pb.JobShape(min_nodes=NODES, max_nodes=NODES, ranks_per_node=RANKS),
        gaps=[pb.SectionGap(section=name, longest_s=0.4) for name in SECTIONS],
    )  # fmt: skip
    for local in range(RANKS):
        job.ranks.add(
            rank=node * RANKS + local, local_rank=local, pid=100 + local, generation=1, life=pb.ObservedRank.ALIVE,
            process_state="R", attached=True,
        )  # fmt: skip
    job.beats.CopyFrom(beat_columns.pack([record(second)] * RANKS))
    return message


def record(second: int) -> Record:
    """What one of its ranks says."""
    steps = (64, 72, 74 + second)
    marks = tuple(value for step in steps for value in (step + second, 12 * (step + second)))
    return Record(10 + second, "backward", 0.05, 0.05, 10 + second, loss=2.5, marks=marks)


def timed_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    started = process_time_ns()
    call()
    return (process_time_ns() - started) / 1e6


if __name__ == "__main__":
    main()
