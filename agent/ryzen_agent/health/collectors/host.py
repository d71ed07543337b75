"""Load, ranks that hang in the kernel, memory errors that the hardware counted, file systems gone read-only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ryzen_agent import procfs
from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.collector import Collector
from ryzen_agent.health.growth import Growth
from ryzen_agent.health.host_files import Mount, parse_mountinfo, parse_switches
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.sysfs import SmallFiles, read_whole

_DAY_S = 86400.0
_NETWORK_KINDS = frozenset({"nfs", "nfs4", "lustre", "ceph", "gpfs", "beegfs", "wekafs"})
_REMOUNTING_KINDS = frozenset({"ext2", "ext3", "ext4", "f2fs", "btrfs"})
"""An error makes these read-only while their mount stays writable: seen even if it was before the first look."""


@dataclass(frozen=True, slots=True)
class _Blocked:
    """A rank that was found in state D, and how often it had been scheduled then."""

    start_ticks: int
    switches: int | None
    since_s: float


class HostCollector(Collector):
    """Raises OSError where /proc itself cannot be read."""

    name = "host"
    interval_s = 10.0

    def __init__(self, settings: HealthSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._files = SmallFiles()
        self._blocked: dict[int, _Blocked] = {}
        self._corrected: dict[str, Growth] = {}
        self._writable: set[tuple[str, str]] = set()

    def collect(self) -> Reading:
        now_s = self._now()
        samples = [*self._load()]
        conditions = [*self._uninterruptible(now_s), *self._read_only()]
        for controller in self._memory_controllers():
            conditions += self._memory_errors(now_s, controller, samples)
        return Reading(conditions=tuple(conditions), samples=tuple(samples))

    def _load(self) -> Iterator[Sample]:
        one = read_whole(f"{self._settings.proc}/loadavg").split()[0]
        yield Sample("system.cpu.load_average.1m", float(one))

    def _uninterruptible(self, now_s: float) -> Iterator[Condition]:
        blocked: dict[int, _Blocked] = {}
        for pid, job in self._settings.watched.pids():
            process = self._in_state_d(pid, now_s)
            if process is None:
                continue
            blocked[pid] = process
            limit = rules.UNINTERRUPTIBLE.limit or 0.0
            if now_s - process.since_s >= limit:
                where = self._files.text(f"{self._settings.proc}/{pid}/wchan")
                where = where if where and where != "0" else "an unknown place of the kernel"
                message = f"rank process {pid} of {job} has not run for {limit:g} s, waits uninterruptibly in {where}"
                yield rules.UNINTERRUPTIBLE.condition(message, device=f"pid {pid}")
        self._blocked = blocked

    def _in_state_d(self, pid: int, now_s: float) -> _Blocked | None:
        """None where the rank is in another state. It waits since it was found so and has not been scheduled since."""
        folder = f"{self._settings.proc}/{pid}"
        text = self._files.text(f"{folder}/stat")
        if not text or (stat := procfs.parse_stat(text.encode())).state != "D":
            return None
        switches = parse_switches(self._files.text(f"{folder}/status") or "")
        before = self._blocked.get(pid)
        if before and (before.start_ticks, before.switches) == (stat.start_ticks, switches):
            return before
        return _Blocked(stat.start_ticks, switches, now_s)

    def _memory_controllers(self) -> list[str]:
        try:
            names = os.listdir(self._settings.sys / "devices/system/edac/mc")  # noqa: PTH208 - names are wanted
        except FileNotFoundError:
            return []
        return sorted(each for each in names if each.removeprefix("mc").isdecimal())

    def _memory_errors(self, now_s: float, controller: str, samples: list[Sample]) -> Iterator[Condition]:
        folder = f"{self._settings.sys}/devices/system/edac/mc/{controller}"
        counts = {"corrected": self._files.number(f"{folder}/ce_count")}
        counts["uncorrected"] = uncorrected = self._files.number(f"{folder}/ue_count")
        identity = (("hw.id", controller), ("hw.type", "memory"))
        for kind, count in counts.items():
            if count is not None:
                samples.append(Sample("hw.errors", float(count), (*identity, ("error.type", kind))))
        growth = self._corrected.setdefault(controller, Growth(_DAY_S))
        growth.look(now_s, counts["corrected"])
        grown = growth.within(now_s, _DAY_S)
        if grown > (rules.ECC_CORRECTED.limit or 0):
            message = f"{controller} corrected more errors in 24 hours than a sound module does"
            yield rules.ECC_CORRECTED.condition(message, device=controller, value=grown)
        if uncorrected:
            message = f"{controller} has counted {uncorrected} uncorrectable error(s) since boot"
            yield rules.ECC_UNCORRECTED.condition(message, device=controller, value=uncorrected)

    def _read_only(self) -> Iterator[Condition]:
        """Once for each file system, however often it is mounted."""
        said: set[str] = set()
        listed: set[tuple[str, str]] = set()
        for mount in parse_mountinfo(read_whole(f"{self._settings.proc}/self/mountinfo")):
            if not is_storage(mount):
                continue
            key = (mount.device, mount.source)
            listed.add(key)
            if not mount.is_read_only:
                self._writable.add(key)
                continue
            by_error = mount.was_mounted_writable and mount.kind in _REMOUNTING_KINDS
            if (by_error or key in self._writable) and mount.device not in said:
                said.add(mount.device)
                message = f"{mount.kind} on {mount.source} at {mount.point} is read-only now"
                yield rules.READ_ONLY_FILE_SYSTEM.condition(message, device=mount.point)
        self._writable &= listed


def is_storage(mount: Mount) -> bool:
    """Not memory, not the kernel's own: a block device's or a network's file system."""
    return mount.source.startswith("/dev/") or mount.kind in _NETWORK_KINDS
