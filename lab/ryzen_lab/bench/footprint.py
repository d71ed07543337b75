"""What the agent of a node with eight beating ranks costs: memory, and the share of a core over half a minute."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from ryzen_lab.cluster import Cluster, Layout
from ryzen_lab.observer import Observer
from ryzen_lab.place import Place
from ryzen_lab.record import cpu_s
from ryzen_lab.scripts import beats

RANKS = 8
WINDOW_S = 30.0
_SETTLE_S = 5.0
_START_S_MAX = 60.0


async def measure() -> dict[str, float]:
    """RSS and PSS in MB, CPU in percent of a core."""
    script = [beats.__file__, str(WINDOW_S + 4 * _SETTLE_S)]
    with Place() as place:
        observer = Observer(place.folder / "lab.sock")
        await observer.start()
        cluster = Cluster(Layout(1, RANKS, script), place.folder, place.lab_id, observer)
        try:
            await cluster.start_coordinator()
            node = cluster.nodes[0]
            cluster.start_agent(node)
            cluster.start_torchrun(node)
            await observer.until("eight ranks", lambda: len(observer.record.alive()) == RANKS, _START_S_MAX)
            await asyncio.sleep(_SETTLE_S)  # the start is not what is measured
            return await _watch(node.agent.pid if node.agent else 0)
        finally:
            await cluster.stop()
            await observer.stop()


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
