"""Memory of the node and of the control groups that the agent and its ranks are confined to; pressure (PSI).

A kill by the kernel in such a group is an event. Whether it took a rank says the rank's end (`endings.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.collector import Collector
from ryzen_agent.health.growth import Growth
from ryzen_agent.health.host_files import (
    parse_cgroup,
    parse_flat,
    parse_limit,
    parse_meminfo,
    parse_pressure,
    share,
)
from ryzen_agent.health.model import Condition, Event, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.sysfs import SmallFiles, read_whole

_RESOURCES = ("cpu", "memory", "io")
_MIB = 1 << 20


class MemoryCollector(Collector):
    """Raises OSError where the node has no /proc/meminfo; all else may be missing."""

    name = "memory"
    interval_s = 10.0

    def __init__(self, settings: HealthSettings, wall: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._wall = wall
        self._files = SmallFiles()
        self._kills: dict[str, Growth] = {}

    def collect(self) -> Reading:
        conditions: list[Condition] = []
        samples: list[Sample] = []
        self._node(conditions, samples)
        self._pressure(conditions, samples)
        root = self._root()
        groups = self._groups() if root is not None else set()
        self._kills = {group: self._kills.get(group, Growth(0.0)) for group in groups}
        events = [event for group in groups for event in self._killed(f"{root}{group}", group)]
        for path in sorted({each for group in groups for each in with_parents(group)}):
            conditions += self._confined(f"{root}{path}", path)
        return Reading(tuple(conditions), tuple(events), tuple(samples))

    def _node(self, conditions: list[Condition], samples: list[Sample]) -> None:
        memory = parse_meminfo(read_whole(f"{self._settings.proc}/meminfo"))
        available = share(memory, "MemAvailable", "MemTotal")
        if available is None:
            return
        samples.append(Sample("system.memory.limit", float(memory["MemTotal"])))
        samples.append(Sample("system.memory.linux.available", float(memory["MemAvailable"])))
        if available < (rules.MEMORY_LOW.limit or 0.0):
            left = f"{memory['MemAvailable'] // _MIB} of {memory['MemTotal'] // _MIB} MiB available"
            conditions.append(rules.MEMORY_LOW.condition(left, value=available))

    def _pressure(self, conditions: list[Condition], samples: list[Sample]) -> None:
        """A kernel built or booted without PSI has no such files, or refuses them."""
        for resource in _RESOURCES:
            text = self._files.text(f"{self._settings.proc}/pressure/{resource}")
            for kind, averages in parse_pressure(text or "").items():
                attributes = (("ryzen.resource", resource), ("ryzen.pressure.kind", kind))
                samples.append(Sample("ryzen.pressure", averages.get("avg10", 0.0) / 100.0, attributes))
                waited = averages.get("avg60", 0.0)
                if (resource, kind) == ("memory", "full") and waited >= (rules.MEMORY_PRESSURE.limit or 0.0):
                    message = "all tasks of the node stand still for want of memory"
                    conditions.append(rules.MEMORY_PRESSURE.condition(message, value=waited))

    def _root(self) -> str | None:
        """Where control groups of version 2 are mounted; beside version 1 it is a folder of its own."""
        for folder in ("fs/cgroup", "fs/cgroup/unified"):
            root = f"{self._settings.sys}/{folder}"
            if self._files.text(f"{root}/cgroup.controllers") is not None:
                return root
        return None

    def _groups(self) -> set[str]:
        """Of the agent and of the ranks it watches."""
        processes = ["self", *(str(pid) for pid, _ in self._settings.watched.pids())]
        texts = (self._files.text(f"{self._settings.proc}/{each}/cgroup") for each in processes)
        return {path for text in texts if text is not None and (path := parse_cgroup(text)) is not None}

    def _killed(self, folder: str, group: str) -> Iterator[Event]:
        counts = parse_flat(self._files.text(f"{folder}/memory.events") or "")
        killed = self._kills[group].look(0.0, counts.get("oom_kill"))
        if killed:
            message = f"the kernel killed {killed} process(es) of control group {group} for want of memory"
            yield Event("oom", message, self._wall(), unit=group, fault_class="app", count=killed)

    def _confined(self, folder: str, group: str) -> Iterator[Condition]:
        """Against the lower of `memory.max` and `memory.high`; what is cached of files can be given back."""
        limits = [parse_limit(self._files.text(f"{folder}/{each}")) for each in ("memory.max", "memory.high")]
        limit = min((each for each in limits if each is not None), default=0)
        current = self._files.number(f"{folder}/memory.current")
        if not limit or current is None:
            return
        kept = parse_flat(self._files.text(f"{folder}/memory.stat") or "")
        used = current - kept.get("active_file", 0) - kept.get("inactive_file", 0)
        available = 100.0 * (limit - used) / limit
        if available < (rules.MEMORY_LOW.limit or 0.0):
            message = f"control group {group} has {max(limit - used, 0) // _MIB} of {limit // _MIB} MiB available"
            yield rules.MEMORY_LOW.condition(message, device=group, value=available)


def with_parents(group: str) -> list[str]:
    """A control group and those it is in: each may have a limit. A container's own is at the root it sees."""
    path = PurePosixPath(group)
    return [str(each) for each in (path, *path.parents)]
