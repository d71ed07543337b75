"""Runs the collectors and makes one picture of what they say.

    collectors' threads (runner.py)
      -> events      paired (pairing.py), given an owner (attribution.py), kept until the coordinator has them
      -> conditions  a level: told when they differ from what the stream was told (telling.py)
      -> samples     the newest of each collector, for whoever exports them

All but the collectors themselves happens in the agent's event loop, and nothing here waits for a collector: one that
a driver holds is a condition of its own, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ryzen_agent.health import pairing, telling, xid_table
from ryzen_agent.health.attribution import UNKNOWN, Attribution, Owner
from ryzen_agent.health.collector import Collector
from ryzen_agent.health.collectors import COLLECTORS, Maker
from ryzen_agent.health.model import Condition, Event, Reading, Sample
from ryzen_agent.health.runner import Runner
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.job import Job
from ryzen_agent.rank import Rank
from ryzen_protos.settings import SettingsError
from ryzen_protos.v1 import node_pb2

PROCESS = "pid "
"""How the device of a condition begins that is a process's."""
STOP_S = 0.5
"""For collectors that are about to return. Higher delays the agent's end for nothing: the threads end with it."""

Keep: TypeAlias = Callable[[str, node_pb2.HealthEvent, int], None]
"""Keeps an event until the coordinator has it: run id of the job it concerns, event, when it happened (Unix, ns)."""
Level: TypeAlias = tuple[str, str, str, str]
"""Name, device, severity and action of a condition: what makes it another one."""

SAME_MOMENT_S = 0.5
"""For so long conditions are not made anew for the next who asks, if no collector says anything new: the coordinator
and the exports want them each second."""


def make_collectors(settings: HealthSettings | None, makers: Sequence[Maker] = COLLECTORS) -> list[Collector]:
    """All that are wanted. Raises SettingsError where one that is unknown is to be left out."""
    if settings is None:
        return []
    made = [make(settings) for make in makers]
    known = {each.name for each in made}
    if unknown := set(settings.without) - known:
        allowed = ", ".join(sorted(known)) or "there are none"
        raise SettingsError(f"option --health-without: {min(unknown)!r} is not allowed: {allowed}")
    return [each for each in made if each.name not in settings.without]


class HealthWatch:
    """See the module's header. Made inside a running event loop. `changed`: there is something to tell."""

    def __init__(
        self, settings: HealthSettings | None, jobs: Iterable[Job], keep: Keep, changed: Callable[[], None],
        makers: Sequence[Maker] = COLLECTORS,
    ) -> None:  # fmt: skip
        """`settings`: None for no collector at all. Raises SettingsError."""
        loop = asyncio.get_running_loop()
        self._settings = settings or HealthSettings()
        self._jobs = jobs
        self._keep = keep
        self._changed = changed
        self._runners = [Runner(each, loop, self._told) for each in make_collectors(settings, makers)]
        self._attribution = Attribution(jobs, self._settings.kmsg_path, self._device_of)
        self._pairing = pairing.Pairing(self._tell, loop.call_later)
        self._levels: dict[Runner, list[Level]] = {}
        self._uuids: dict[str, str] = {}
        self._gpu_of_pid: dict[int, str] = {}
        self._jobs_told: set[str] = set()
        self._since_s: dict[tuple[str, str], float] = {}
        self._conditions: tuple[float, list[node_pb2.HealthCondition]] = (-math.inf, [])
        self._all_gone = asyncio.Event()

    def start(self) -> None:
        for each in self._runners:
            each.start()

    async def close(self) -> None:
        """Stop looking. Waits a moment for those that are about to return, never for one that hangs."""
        for each in self._runners:
            each.stop()
        if any(not each.gone for each in self._runners):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._all_gone.wait()
        self._pairing.flush()

    def look(self, now_s: float) -> None:
        """Once a second: which processes are ranks, and who does not answer?"""
        self._name_ranks()
        changed = [each.check(now_s) for each in self._runners]
        if any(changed):
            self._settle(now_s)
            self._changed()

    def killed(self, ranks: Iterable[Rank]) -> None:
        """This agent has killed them: what the driver says of their processes now is its doing."""
        now_s = time.monotonic()
        for each in ranks:
            self._attribution.killed(each, now_s)

    # ------------------------------------------------------------- what is known

    def conditions(self, now_s: float) -> Sequence[node_pb2.HealthCondition]:
        """What is wrong now, in a fixed order, with the ranks that it concerns. Shared by all who ask in a moment: copy
        what you change."""
        at_s, found = self._conditions
        if not 0 <= now_s - at_s < SAME_MOMENT_S:
            found = [
                telling.health_condition(each, self._owner_of(each), now_s - self._since_s.get(key, now_s))
                for key, each in sorted(self._standing(now_s).items())
            ]
            self._conditions = now_s, found
        return found

    def samples(self) -> list[Sample]:
        """The newest measurements, and of each collector how its last look went."""
        now_s = time.monotonic()
        return [sample for each in self._runners for sample in each.samples(now_s)]

    def complaints(self) -> list[str]:
        """Which collectors do not work, in words."""
        now_s = time.monotonic()
        return [complaint for each in self._runners if (complaint := each.complaint(now_s))]

    # ------------------------------------------------------------- inside

    def _name_ranks(self) -> None:
        """For the collectors that look at processes. What a driver said of others, or of ranks long gone, is let go."""
        pids: dict[str, list[int]] = {run_id: [] for run_id in self._jobs_told}
        for job in self._jobs:
            pids[job.run_id] = [*pids.get(job.run_id, []), *(rank.acting_pid for rank in job.ranks if rank.alive)]
        for run_id, its in pids.items():
            self._settings.watched.put(run_id, its)
        self._jobs_told = {run_id for run_id, its in pids.items() if its}
        known = {pid for job in self._jobs for rank in job.ranks for pid in (rank.pid, rank.acting_pid)}
        self._gpu_of_pid = {pid: gpu for pid, gpu in self._gpu_of_pid.items() if pid in known}

    def _told(self, runner: Runner, reading: Reading | None) -> None:
        """A look has come back. Told at once where it matters; measured values alone go with the next update."""
        now_s = time.monotonic()
        if reading is None:
            if all(each.gone for each in self._runners):
                self._all_gone.set()
            return
        self._conditions = -math.inf, []
        self._uuids.update(reading.devices)
        self._gpu_of_pid.update(reading.processes)
        for each in reading.events:
            self._take(runner.name, each, now_s)
        levels: list[Level] = [(each.name, each.device, each.severity, each.action) for each in reading.conditions]
        if levels != self._levels.get(runner, []):
            self._levels[runner] = levels
            self._settle(now_s)
            self._changed()

    def _take(self, source: str, event: Event, now_s: float) -> None:
        event = dataclasses.replace(event, device=self._named(event.device, event.pci))
        if event.kind == "xid" and not event.fault_class:  # the driver tells the number alone
            event = xid_table.classified(event)
        if not event.code or not event.device:
            self._tell(event)
            return
        fuller_works = any(each.works for each in self._runners if each.name == pairing.FULLER)
        self._pairing.take(source, event, fuller_works, now_s)

    def _tell(self, event: Event) -> None:
        owner = self._attribution.of_event(event)
        ours = self._attribution.is_ours(event, owner, time.monotonic())
        message = telling.health_event(event, owner, ours)
        self._keep(owner.run_id, message, int(event.at_unix_s * 1e9))
        self._changed()

    def _settle(self, now_s: float) -> None:
        """Keep since when each condition has stood."""
        self._conditions = -math.inf, []
        self._since_s = {key: self._since_s.get(key, now_s) for key in self._standing(now_s)}

    def _standing(self, now_s: float) -> dict[tuple[str, str], Condition]:
        """By name and device. What two collectors say of one device under one name is one condition."""
        found = [each for runner in self._runners for each in runner.conditions(now_s)]
        named = [dataclasses.replace(each, device=self._named(each.device, each.pci)) for each in found]
        return {each.key: each for each in named}

    def _owner_of(self, condition: Condition) -> Owner:
        if condition.device.startswith(PROCESS):
            return self._attribution.of_rank(int(condition.device.removeprefix(PROCESS)))
        return self._attribution.of_device(condition.device) if condition.device else UNKNOWN

    def _named(self, device: str, pci: str) -> str:
        """By its UUID where any collector knows that."""
        return self._uuids.get(pci or device, device or pci) if device in ("", pci) else device

    def _device_of(self, rank: Rank) -> str:
        """As the rank says itself, else as the driver does."""
        uuid, pci = rank.page.device() if rank.page is not None else ("", "")
        return uuid or self._uuids.get(pci, pci) or self._gpu_of_pid.get(rank.acting_pid, "")
