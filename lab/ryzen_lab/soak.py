"""`ryzen-lab soak`: an hour of healthy training that is as unpleasant as healthy training gets.

Nothing is struck. Checkpoints are saved every few seconds; rank 0 goes into an evaluation that nobody named while
all others wait for it; now and then a rank collects a large heap of garbage; processes from outside take the CPUs
away for a while. The right number of actions is none: every restart, every verdict that acts and every death is a
false one. The result is written again every minute, so that an hour that is cut short has said something too.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ryzen_lab import measure
from ryzen_lab.cluster import Cluster, Layout
from ryzen_lab.coordinator_watch import watch_incidents
from ryzen_lab.errors import LabError
from ryzen_lab.observer import Observer
from ryzen_lab.place import Place
from ryzen_lab.record import Record
from ryzen_lab.settings import TrialSettings, preload, script_command

_STEPS = 100_000_000
"""More than there is time for."""
_START_S_MAX = 120.0
_WRITE_EVERY_S = 60.0
_COLLECT_EVERY_S = (10.0, 60.0)
_COLLECT_OBJECTS = (200_000, 3_000_000)
"""A full collection of a million lists takes 0.1 to 0.5 s; making them as long again."""
_LOADED_S = (3.0, 60.0)
_QUIET_S = (5.0, 40.0)
_BUSY = "while True: pass"
_ARGUMENTS = ("--set", "training.checkpoint.every_steps=50", "--set", "training.global_batch=32")
"""Of the reference trainer: a checkpoint every few seconds, steps of 50 to 100 ms."""


class SoakSettings(TrialSettings):
    """The cluster's options are a trial's."""

    minutes: Annotated[float, Field(gt=0, le=60 * 24)] = 60.0
    evaluation_every_s: Annotated[float, Field(gt=0)] = 300.0
    evaluation_s: Annotated[float, Field(ge=0)] = 30.0
    contention: Annotated[int, Field(ge=0, le=64)] = 2
    """Most busy processes at a time."""


class Soak:
    """Runs once."""

    def __init__(self, settings: SoakSettings, told: Callable[[dict[str, Any]], None]) -> None:
        if settings.is_reference and not settings.arguments:
            settings = settings.model_copy(update={"arguments": _ARGUMENTS})
        self.settings = settings.model_copy(update={"steps": _STEPS})
        self.chance = random.Random(settings.seed)  # noqa: S311 - when to be unpleasant, no secret
        self._told = told
        self._counts: collections.Counter[str] = collections.Counter()
        self._loaded_s = 0.0
        self._began_s = 0.0

    async def run(self) -> dict[str, Any]:
        """The result. Raises LabError; nothing is left running either way."""
        with Place() as place:
            observer = Observer(place.folder / "lab.sock")
            await observer.start()
            cluster = Cluster(self._layout(), place.folder, place.lab_id, observer)
            tasks: list[asyncio.Task[None]] = []
            try:
                await self._start(cluster, tasks)
                await self._watch(cluster, tasks)
                return self.result(observer.record)
            except LabError as error:
                raise LabError(f"{error}\n{cluster.tails()}") from error
            finally:
                for task in tasks:
                    task.cancel()
                await cluster.stop()
                await observer.stop()
                if self.settings.logs is not None:
                    cluster.keep_logs(self.settings.logs)

    def _layout(self) -> Layout:
        settings = self.settings
        floor = settings.stall_floor_s
        return Layout(
            nodes=settings.nodes,
            ranks_per_node=settings.ranks_per_node,
            script=script_command(settings),
            steps=settings.steps,
            cold=settings.cold,
            preload=preload(settings),
            coordinator_environment={} if floor is None else {"RYZEN_STALL_FLOOR_S": str(floor)},
        )

    async def _start(self, cluster: Cluster, tasks: list[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        await cluster.start_coordinator()
        tasks.append(loop.create_task(watch_incidents(lambda: cluster.address, cluster.observer.incident)))
        for node in cluster.nodes:
            cluster.start_agent(node)
            cluster.start_torchrun(node)
        record = cluster.observer.record
        await cluster.observer.until("the first step", lambda: record.step() >= 1, _START_S_MAX)
        self._began_s = time.monotonic()
        tasks += [loop.create_task(each(cluster)) for each in (self._evaluate, self._collect, self._contend)]

    async def _watch(self, cluster: Cluster, tasks: list[asyncio.Task[None]]) -> None:
        """Until the time is over, or the job is. A task that has failed fails the soak."""
        end = self._began_s + self.settings.minutes * 60
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _WRITE_EVERY_S))
            self._told(self.result(cluster.observer.record))
            for task in tasks:
                if task.done():
                    task.result()
            if all(each.died_ns is not None for each in cluster.observer.record.services if each.what == "torchrun"):
                return

    # ------------------------------------------------------------ unpleasant, and healthy

    async def _evaluate(self, cluster: Cluster) -> None:
        while self.settings.evaluation_s:
            await asyncio.sleep(self.settings.evaluation_every_s)
            if (rank := cluster.observer.record.current().get(0)) is not None:
                cluster.observer.order(rank, do="pause", seconds=self.settings.evaluation_s)
                self._counts["evaluations"] += 1

    async def _collect(self, cluster: Cluster) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(*_COLLECT_EVERY_S))
            if current := cluster.observer.record.current():
                rank = current[self.chance.choice(sorted(current))]
                cluster.observer.order(rank, do="collect", objects=self.chance.randint(*_COLLECT_OBJECTS))
                self._counts["garbage_collections"] += 1

    async def _contend(self, cluster: Cluster) -> None:
        while self.settings.contention:
            await asyncio.sleep(self.chance.uniform(*_QUIET_S))
            pids = [
                cluster.start_helper([sys.executable, "-I", "-S", "-c", _BUSY])
                for _ in range(self.chance.randint(1, self.settings.contention))
            ]
            self._counts["contentions"] += 1
            began = time.monotonic()
            try:
                await asyncio.sleep(self.chance.uniform(*_LOADED_S))
            finally:
                for pid in pids:
                    cluster.end_helper(pid)
                self._loaded_s += time.monotonic() - began

    # ------------------------------------------------------------ figures

    def result(self, record: Record) -> dict[str, Any]:
        """As of now."""
        last = measure.last_messages(record)
        kinds = collections.Counter(
            f"{each.verdict.fault_class or 'no verdict'}/{each.verdict.action or 'none'}" for each in last
        )
        acting = measure.acting(last)
        deaths = measure.false_actions(record)
        return {
            "minutes": round((time.monotonic() - self._began_s) / 60, 2),
            "steps": record.step(),
            **step_times(record),
            "incidents": len(last),
            "incidents_by_class_and_action": dict(sorted(kinds.items())),
            "incidents_in_words": [measure.in_words(each) for each in last],
            "false_actions": len(acting) + len(deaths),
            "false_deaths": deaths,
            "generations": measure.generations(record),
            **{name: self._counts[name] for name in ("evaluations", "garbage_collections", "contentions")},
            "contended_s": round(self._loaded_s, 1),
            "nodes": self.settings.nodes,
            "ranks_per_node": self.settings.ranks_per_node,
            "script": self.settings.script if self.settings.is_reference else Path(self.settings.script).name,
            "stall_floor_s": self.settings.stall_floor_s,
            "load_average": [round(each, 2) for each in os.getloadavg()],
            "cpus": os.cpu_count(),
        }


def step_times(record: Record) -> dict[str, float | None]:
    """Median and longest time between two steps of rank 0, in seconds."""
    times = [at for each in record.ranks if each.rank == 0 for at, _step in each.steps]
    gaps = sorted((after - before) / 1e9 for before, after in itertools.pairwise(times))
    if not gaps:
        return {"step_s_median": None, "step_s_max": None}
    return {"step_s_median": round(gaps[len(gaps) // 2], 4), "step_s_max": round(gaps[-1], 2)}


def writer(out: Path | None) -> Callable[[dict[str, Any]], None]:
    """Puts the newest result in place of the one before; None or `-` keeps it for the end."""

    def write(result: dict[str, Any]) -> None:
        if out is not None and str(out) != "-":
            aside = out.with_name(f".{out.name}.new")
            aside.write_text(json.dumps(result, indent=2) + "\n")
            aside.replace(out)

    return write
