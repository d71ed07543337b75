"""What the agent of a node with eight beating ranks and eight GPUs costs: memory, and the share of a core over half a
minute, with every collector at its default interval; and how soon a line of the kernel log is at the coordinator.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from ryzen_lab.bench import kernel_line
from ryzen_lab.bench.standing import standing
from ryzen_lab.cluster import Layout
from ryzen_lab.record import cpu_s
from ryzen_lab.scripts import beats

RANKS = 8
WINDOW_S = 30.0
_SETTLE_S = 5.0
_START_S_MAX = 60.0


async def measure() -> dict[str, float]:
    """RSS and PSS in MB, CPU in percent of a core; delays in ms."""
    script = [beats.__file__, str(WINDOW_S + 8 * _SETTLE_S)]
    layout = Layout(1, RANKS, script, driver=True, gpu_interval_s=None)
    async with standing(layout) as (cluster, observer):
        node = cluster.nodes[0]
        cluster.start_agent(node)
        cluster.start_torchrun(node)
        await observer.until("eight ranks", lambda: len(observer.record.alive()) == RANKS, _START_S_MAX)
        await asyncio.sleep(_SETTLE_S)  # the start is not what is measured
        figures = await _watch(node.agent.pid if node.agent else 0)
        delays = await kernel_line.delays_s(cluster, node)
        return {
            **figures,
            "line_ms": 1000 * statistics.median(delays),
            "line_ms_max": 1000 * max(delays),
        }


async def _watch(pid: int) -> dict[str, float]:
    before_s, began = cpu_s(pid), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    used = cpu_s(pid) - before_s
    return {
        "rss_mb": memory_mb(pid, "Rss"),
        "pss_mb": memory_mb(pid, "Pss"),
        "cpu_percent": 100 * used / (time.monotonic() - began),
    }


def memory_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no {name}")
