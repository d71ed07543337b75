"""What a coordinator costs with thousands of agents, and how soon they all know of a decision.

A real `ryzen-coordinator serve`, and the agents of fleet.py in one other process: a job of all nodes, every agent
once a second. CPU and memory are the coordinator's alone, over a window in which nothing happens but progress. Then
the same agents on a server that only reads what they say (bare.py): what of it is gRPC's, in the same minutes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

from ryzen_lab import leftovers
from ryzen_lab.bench import bare, fleet
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
        agents = await _start(fleet.__name__, cluster, cluster.address, str(nodes), str(RANKS))
        formed = await _answer(agents, cluster)
        figures: dict[str, Any] = {
            "nodes": nodes, "ranks": RANKS, "seconds": seconds, "formed_s": formed["formed_s"],
            "cpu_percent": await _share(pid, seconds), "rss_mb": memory_mb(pid, "Rss"),
        }  # fmt: skip
        kills = []
        for _ in range(repeat):
            if agents.stdin is not None:
                agents.stdin.write(b"kill\n")
            kills.append(await _answer(agents, cluster))
        figures |= {"kills": kills, "rss_after_mb": memory_mb(pid, "Rss")}
        await _end(agents)
        return {**figures, "grpc_percent": await _grpc_alone(cluster, nodes, seconds)}


async def _grpc_alone(cluster: Cluster, nodes: int, seconds: float) -> float:
    """Percent of a core that reading the same messages takes, with nothing made of them."""
    server = await _start(bare.__name__, cluster)
    agents = await _start(fleet.__name__, cluster, (await _line(server, cluster)).strip(), str(nodes), str(RANKS))
    await _answer(agents, cluster)
    share = await _share(server.pid, seconds)
    await _end(agents)
    await _end(server)
    return share


async def _share(pid: int, seconds: float) -> float:
    """Percent of a core over a window, once the start is over."""
    await asyncio.sleep(_SETTLE_S)
    before_s, began = cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (cpu_s(pid) - before_s) / (time.monotonic() - began)


async def _start(module: str, cluster: Cluster, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean_environment(), leftovers.VARIABLE: cluster.lab_id},
    )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """Both kinds end with their standard input."""
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


async def _answer(agents: asyncio.subprocess.Process, cluster: Cluster) -> dict[str, float]:
    return dict(json.loads(await _line(agents, cluster)))


async def _line(process: asyncio.subprocess.Process, cluster: Cluster) -> str:
    """The next one that it says. Raises LabError."""
    if process.stdout is None or process.stderr is None:
        raise LabError("a process of the benchmark has no output")
    try:
        async with asyncio.timeout(_ANSWER_S_MAX):
            line = await process.stdout.readline()
            if line:
                return line.decode()
            why = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
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
            f"job, every agent once a second; CPU over {figures['seconds']:.0f} s. Of it gRPC: a server that reads the",
            "same messages and makes nothing of them, right after. A rank dies: until the agents have heard of the new",
            f"generation, {len(figures['kills'])} times.",
            "",
            "| nodes | first world | share of a core | of it gRPC | RSS | told, median node | told, last node "
            "| new world at all |",
            "|---|---|---|---|---|---|---|---|",
            f"| {figures['nodes']} | {figures['formed_s']:.1f} s | {figures['cpu_percent']:.0f} % "
            f"| {figures['grpc_percent']:.0f} % | {figures['rss_mb']:.0f} MB "
            f"| {median:.2f} s | {longest:.2f} s | {world:.1f} s |",
        ]
    )
