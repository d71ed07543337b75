"""What a coordinator costs with thousands of agents, and how soon they all know of a decision.

A real `ryzen-coordinator serve`, and the agents of fleet.py in one other process: a job of all nodes, every agent
once a second. CPU and memory are the coordinator's alone, over a window in which nothing happens but progress.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

from ryzen_lab import leftovers
from ryzen_lab.bench import fleet
from ryzen_lab.bench.document import conditions
from ryzen_lab.bench.footprint import memory_mb
from ryzen_lab.bench.standing import standing
from ryzen_lab.cluster import Cluster, Layout, clean_environment
from ryzen_lab.errors import LabError
from ryzen_lab.record import cpu_s

RANKS = 8
_SETTLE_S = 5.0
_ANSWER_S_MAX = 300.0


async def measure(nodes: int, seconds: float, repeat: int) -> dict[str, Any]:
    """CPU in percent of a core, RSS in MB, times in seconds. Raises LabError."""
    fleet.soft_to_hard()
    async with standing(Layout(1, RANKS, [])) as (cluster, _):
        pid = cluster.coordinator.pid if cluster.coordinator else 0
        agents = await _start_fleet(cluster, nodes)
        formed = await _answer(agents, cluster)
        await asyncio.sleep(_SETTLE_S)  # the start is not what is measured
        before_s, began = cpu_s(pid), time.monotonic()
        await asyncio.sleep(seconds)
        used = cpu_s(pid) - before_s
        figures = {
            "nodes": nodes, "ranks": RANKS, "seconds": seconds, "formed_s": formed["formed_s"],
            "cpu_percent": 100 * used / (time.monotonic() - began), "rss_mb": memory_mb(pid, "Rss"),
        }  # fmt: skip
        kills = []
        for _ in range(repeat):
            if agents.stdin is not None:
                agents.stdin.write(b"kill\n")
            kills.append(await _answer(agents, cluster))
        return {**figures, "kills": kills, "rss_after_mb": memory_mb(pid, "Rss")}


async def _start_fleet(cluster: Cluster, nodes: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", fleet.__name__, cluster.address, str(nodes), str(RANKS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean_environment(), leftovers.VARIABLE: cluster.lab_id},
    )  # fmt: skip


async def _answer(agents: asyncio.subprocess.Process, cluster: Cluster) -> dict[str, float]:
    if agents.stdout is None or agents.stderr is None:
        raise LabError("the fleet has no output")
    try:
        async with asyncio.timeout(_ANSWER_S_MAX):
            line = await agents.stdout.readline()
            if line:
                return dict(json.loads(line))
            why = (await agents.stderr.read()).decode(errors="replace").strip().splitlines()
    except TimeoutError:
        why = ["it does not answer"]
    raise LabError(f"the fleet of agents has failed: {why[-1] if why else 'no word'}\n{cluster.tails()}")


def table(figures: dict[str, Any], command: str) -> str:
    """One row; the spread of the decision over all repetitions."""
    median = statistics.median(each["told_median_s"] for each in figures["kills"])
    longest = max(each["told_max_s"] for each in figures["kills"])
    world = statistics.median(each["world_max_s"] for each in figures["kills"])
    return "\n".join(
        [
            "## What the coordinator costs with many agents",
            "",
            conditions(command),
            f"{figures['nodes']} agents of {figures['ranks']} ranks each in one other process on the same machine, one",
            f"job, every agent once a second; CPU over {figures['seconds']:.0f} s. A rank dies: until the agents have",
            f"heard of the new generation, {len(figures['kills'])} times.",
            "",
            "| nodes | first world | share of a core | RSS | told, median node | told, last node | new world at all |",
            "|---|---|---|---|---|---|---|",
            f"| {figures['nodes']} | {figures['formed_s']:.1f} s | {figures['cpu_percent']:.0f} % "
            f"| {figures['rss_mb']:.0f} MB | {median:.2f} s | {longest:.2f} s | {world:.1f} s |",
        ]
    )
