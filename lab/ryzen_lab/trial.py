"""One trial: a cluster, a fault at a random moment, the end of the job, the figures.

The order of events: coordinator and agents, torchruns, the first step, spares parked and warm, the step at which the
fault is due plus a random part of a step, the fault, what was killed comes back, the job ends. Whatever is awaited has
a limit and fails with the tails of all logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ryzen_lab import measure, spares
from ryzen_lab.cluster import Cluster, Layout
from ryzen_lab.comparison import ScriptPaths, compare
from ryzen_lab.coordinator_watch import watch_incidents
from ryzen_lab.errors import LabError, NeverHappened, NotStarted, UsageError
from ryzen_lab.faults import Fault, parse
from ryzen_lab.faults.values import tell_flips
from ryzen_lab.launcher import Launcher
from ryzen_lab.observer import Observer
from ryzen_lab.place import Place
from ryzen_lab.record import Listener, Record, Service
from ryzen_lab.settings import TrialSettings, preload, script_command
from ryzen_lab.striking import Striker

FIRST_STEP_S_MAX = 120.0
_MIDDLE = (0.3, 0.6)
"""Part of the run from which a random step is taken: late enough for a checkpoint, early enough to go on after."""


async def run_trials(settings: TrialSettings, repeat: int = 1) -> AsyncIterator[dict[str, Any]]:
    """One result a trial; of a foreign script it is found out first whether its digests compare.

    A trial that fails gives `{"error": the LabError's text}`.
    """
    trials = [Trial(_seeded(settings, index)) for index in range(repeat)]
    foreign = not settings.is_reference and settings.compare
    comparison = await compare(settings) if foreign else None
    for trial in trials:
        paths = ScriptPaths(settings.arguments) if foreign else None
        try:
            result = await trial.run()
        except LabError as error:
            yield {"error": str(error)}
            continue
        finally:
            if paths is not None:
                paths.free()
        if comparison is not None:
            result["digest_comparable"] = result["digest_comparable"] and comparison.comparable
            result["undisturbed_digest"] = comparison.undisturbed
        elif not settings.is_reference:
            result["digest_comparable"] = None
        yield result


def _seeded(settings: TrialSettings, index: int) -> TrialSettings:
    """Repeated trials strike at other moments, yet each can be had again."""
    return settings if settings.seed is None else settings.model_copy(update={"seed": settings.seed + index})


class Trial:
    """Runs once. `listeners` hear every event as it is recorded; `launcher` is in torchrun's and Ryzen's place."""

    def __init__(
        self, settings: TrialSettings, listeners: Sequence[Listener] = (), launcher: Launcher | None = None
    ) -> None:
        self.settings = settings
        self.launcher = launcher
        self.faults = parse(settings.fault, settings.xid)
        tell_flips(self.faults, settings.flip, settings.flip_probability)
        self.chance = random.Random(settings.seed)  # noqa: S311 - where to strike, no secret
        self.at_step = settings.at_step or int(settings.steps * self.chance.uniform(*_MIDDLE))
        self._listeners = listeners
        self._tasks: list[asyncio.Task[None]] = []
        _check(settings, self.faults)
        self._striker = Striker(settings, self.faults, self.chance)

    async def run(self) -> dict[str, Any]:
        """The result as in the lab contract. Raises LabError; nothing is left running either way."""
        with Place() as place:
            observer = Observer(place.folder / "lab.sock")
            observer.listeners.extend(self._listeners)
            await observer.start()
            cluster = Cluster(self._layout(), place.folder, place.lab_id, observer)
            try:
                async with asyncio.timeout(self.settings.timeout_s):
                    return await self._run(cluster)
            except TimeoutError:
                raise LabError(f"no end after {self.settings.timeout_s:.0f} s\n{cluster.tails()}") from None
            except LabError as error:
                kind = LabError if observer.record.step() else NotStarted
                raise kind(f"{error}\n{cluster.tails()}") from error
            finally:
                for task in self._tasks:
                    task.cancel()
                self._striker.cancel()
                await cluster.stop()
                await observer.stop()
                if self.settings.logs is not None:
                    cluster.keep_logs(self.settings.logs)

    def _layout(self) -> Layout:
        settings, floor = self.settings, self.settings.stall_floor_s
        return Layout(
            nodes=settings.nodes,
            ranks_per_node=settings.ranks_per_node,
            script=script_command(settings),
            spares=settings.spares,
            min_nodes=settings.min_nodes,
            rdzv=settings.rdzv,
            bare=settings.bare,
            launcher=self.launcher,
            cold=settings.cold,
            preload=preload(settings),
            steps=settings.steps,
            driver=any(each.needs_driver for each in self.faults),
            relays=any(each.kind == "partition" for each in self.faults),
            coordinator_environment={} if floor is None else {"RYZEN_STALL_FLOOR_S": str(floor)},
        )

    async def _run(self, cluster: Cluster) -> dict[str, Any]:
        await self._start(cluster)
        self._striker.watch(cluster)
        load = os.getloadavg()[0]
        if self._striker.at_once:
            await self._wait_for_step(cluster)
            load = os.getloadavg()[0]
            await self._striker.strike(cluster)
        exits = await self._end(cluster)
        self._striker.finish()
        codes = [code for code in exits.values() if code is not None]
        return {
            "fault": _fault(self._striker.struck),
            **measure.figures(cluster.observer.record),
            "digest_comparable": measure.world_kept(cluster.observer.record),
            "exit_code": next((code for code in codes if code), 0),
            "torchrun_exit_codes": exits,
            "end_s": _end_s(cluster),
            "stall_floor_s": self.settings.stall_floor_s,
            "finished": measure.has_finished(cluster.observer.record),
            "load_average": round(load, 2),
            "cpus": os.cpu_count(),
        }

    async def _start(self, cluster: Cluster) -> None:
        settings, observer = self.settings, cluster.observer
        if not settings.bare:
            await cluster.start_coordinator()
            watch = watch_incidents(lambda: cluster.address, observer.incident)
            self._tasks.append(asyncio.get_running_loop().create_task(watch))
            for node in cluster.nodes:
                cluster.start_agent(node)
        await cluster.start_master()
        for node in cluster.nodes[: settings.nodes]:
            cluster.start_torchrun(node)
        ranks = settings.nodes * settings.ranks_per_node
        record = observer.record
        await self._first(cluster, "all ranks to start", lambda: len(record.ranks) >= ranks)
        for node in cluster.nodes[settings.nodes :]:
            cluster.start_torchrun(node)
        await self._first(cluster, "the first optimizer step", lambda: record.step() >= 1)
        if settings.spares and settings.bare:
            launchers = [each.torchrun for each in cluster.nodes[settings.nodes :] if each.torchrun is not None]
            await spares.wait_until_at_rest([each.pid for each in launchers])
        elif settings.spares and settings.rdzv == "ryzen":
            await spares.wait_until_parked(cluster.address, settings.spares)
            if not settings.cold:
                await spares.wait_until_warm([each.run_dir for each in cluster.nodes[settings.nodes :]])

    async def _first(self, cluster: Cluster, what: str, condition: Callable[[], bool]) -> None:
        await cluster.observer.until(what, condition, FIRST_STEP_S_MAX, lambda: _broken(cluster))

    async def _wait_for_step(self, cluster: Cluster) -> None:
        """Until the step at which the fault is due, and a random part of a step more."""
        record = cluster.observer.record
        await cluster.observer.until(
            f"step {self.at_step}",
            lambda: record.step() >= self.at_step,
            self.settings.timeout_s,
            lambda: _broken(cluster),
        )
        times = [at for at, _step in next(iter(record.current().values())).steps[-6:]]
        gaps = [after - before for before, after in itertools.pairwise(times)] or [0]
        await asyncio.sleep(self.chance.random() * statistics.median(gaps) / 1e9)

    async def _end(self, cluster: Cluster) -> dict[str, int | None]:
        """Wait for the end of the job, or of the patience with its recovery; torchruns' exit codes by node, None for
        one that a fault killed or that still runs: stock torchrun never dismisses a spare."""
        record = cluster.observer.record
        lonely = self.settings.bare and self.settings.spares > 0
        if await self._goes_on(cluster, lonely):
            await cluster.observer.until(
                "the end of the job",
                lambda: _is_over(record, lonely),
                self.settings.timeout_s,
                lambda: _broken_control(cluster),
            )
        struck = {pid for each in record.injections for pid in each.pids}
        killed = {each.pid for each in _torchruns(record) if each.pid in struck and each.exit_code == -signal.SIGKILL}
        return {each.node: None if each.pid in killed else each.exit_code for each in _torchruns(record)}

    async def _goes_on(self, cluster: Cluster, lonely: bool) -> bool:
        """Whether the job has an end to wait for: it recovered in time, or there is no limit for that."""
        record, patience_s = cluster.observer.record, self.settings.patience_s
        if patience_s is None or not record.injections:
            return True
        with contextlib.suppress(NeverHappened):
            await cluster.observer.until(
                "the first new step", lambda: measure.has_recovered(record) or _is_over(record, lonely), patience_s
            )
        return measure.has_recovered(record)


def _is_over(record: Record, lonely: bool) -> bool:
    """Every torchrun has ended, or, where one waits for ever (`lonely`), the ranks have finished their work."""
    if all(each.died_ns is not None for each in _torchruns(record)):
        return True
    return lonely and not record.alive() and measure.has_finished(record)


def _torchruns(record: Record) -> list[Service]:
    return [each for each in record.services if each.what == "torchrun"]


def _check(settings: TrialSettings, faults: list[Fault]) -> None:
    """What pydantic cannot see. Raises UsageError."""
    world = settings.nodes * settings.ranks_per_node
    for each in filter(None, settings.fault_rank.split(",")):
        if not each.isdigit() or int(each) >= world:
            raise UsageError(f"option --fault-rank: {each!r} is not allowed: ranks are 0 to {world - 1}")
    names = {f"node-{index}" for index in range(settings.nodes + settings.spares)}
    for each in filter(None, settings.fault_node.split(",")):
        if each not in names and f"node-{each}" not in names:
            raise UsageError(f"option --fault-node: {each!r} is not allowed: {', '.join(sorted(names))}")
    if settings.min_nodes is not None and settings.min_nodes > settings.nodes:
        raise UsageError(f"option --min-nodes: {settings.min_nodes} is more than --nodes {settings.nodes}")
    if settings.at_step is not None and settings.at_step >= settings.steps:
        raise UsageError(f"option --at-step: {settings.at_step} is not before the end of the run ({settings.steps})")
    if not settings.is_reference and not Path(settings.script).is_file():
        raise UsageError(f"option --script: {settings.script} is no file")
    if settings.bare and (settings.rdzv == "ryzen" or any(each.needs_agent or not each.interrupts for each in faults)):
        raise UsageError("option --bare: stock torchrun alone has no agent or coordinator: use it with --rdzv c10d")


def _broken_control(cluster: Cluster) -> str:
    """Which agent or coordinator has ended by itself; "" while none has."""
    struck = {pid for each in cluster.observer.record.injections for pid in each.pids}
    for each in cluster.observer.record.services:
        if each.what != "torchrun" and each.died_ns is not None and each.pid not in struck:
            return f"{each.what} {each.node} has ended, exit code {each.exit_code}"
    return ""


def _broken(cluster: Cluster) -> str:
    """Why nothing more can come of this trial; "" while it can."""
    if control := _broken_control(cluster):
        return control
    torchruns = _torchruns(cluster.observer.record)
    if torchruns and all(each.died_ns is not None for each in torchruns):
        codes = ", ".join(f"{each.node}: {each.exit_code}" for each in torchruns)
        return f"every torchrun has ended, exit codes {codes}"
    return ""


def _fault(struck: list[dict[str, Any]]) -> dict[str, Any]:
    """One fault as it was done; of several, their kinds together and the first rank and node that were struck."""
    if not struck:
        return {"kind": "none", "rank": None, "node": None, "at_step": None}
    if len(struck) == 1:
        return struck[0]
    ranks = [each for each in struck if each["rank"] is not None]
    named = ranks or [each for each in struck if each["node"] is not None] or struck
    return {**named[0], "kind": ",".join(each["kind"] for each in struck), "all": struck}


def _end_s(cluster: Cluster) -> float | None:
    """Seconds between the end of the last rank and that of the last torchrun, spares included."""
    record = cluster.observer.record
    ranks = [each.died_ns for each in record.ranks if each.finished and each.died_ns]
    torchruns = [each.died_ns for each in _torchruns(record) if each.died_ns]
    return round((max(torchruns) - max(ranks)) / 1e9, 3) if ranks and torchruns else None
