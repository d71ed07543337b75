"""Whose a process or a device is: a rank's, known to be nobody's that is watched here, or not known.

A rank is known by more than its own pid: what it starts shares its process group, descends from it, or at least has
its environment. *Foreign* needs proof: the process lives, was there when it happened, and none of these leads to a job;
or every rank's device is known and this is none of them. Whatever is not known stays unknown; the coordinator decides.

The kernel log counts pids as the machine does. An agent in a container counts others, and learns nothing from them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ryzen_agent import procfs
from ryzen_agent.health.model import Event
from ryzen_agent.job import Job
from ryzen_agent.rank import Rank

KILLED_S = 60.0
"""How long the driver may still speak of a process that this agent has killed: a channel is torn down after the end."""
CLEANUP_S = 10.0
"""How long after a kill an Xid 45 is its consequence whomever it names."""
GPU = "GPU-"
"""How the UUID of a whole GPU begins; a MIG instance's does not tell which GPU it is on."""
PREEMPTIVE_REMOVAL = 45
"""ROBUST_CHANNEL_PREEMPTIVE_REMOVAL: the driver cleans up after a process that has ended."""

_HARDWARE = frozenset({"reset_gpu", "reboot", "drain_service"})
_MACHINE_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of linux/proc_ns.h
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_ANCESTORS = 8
_SLACK_S = 2.0
"""Between a time of the kernel log, whose clock drifts, and the start of a process."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`ranks` of job `run_id`. `foreign`: known to belong to nobody who is watched. Neither: not known."""

    run_id: str = ""
    ranks: tuple[int, ...] = ()
    foreign: bool = False


UNKNOWN = Owner()
FOREIGN = Owner(foreign=True)


class Attribution:
    """`jobs`: those of the agent. `device_of`: the GPU of a rank by UUID, "" where it is not known (yet)."""

    def __init__(self, jobs: Iterable[Job], kmsg_path: Path, device_of: Callable[[Rank], str]) -> None:
        self._jobs = jobs
        self._pids_are_ours = counts_pids_as_we_do(kmsg_path)
        self._device_of = device_of
        self._killed: dict[int, float] = {}

    def killed(self, rank: Rank, now_s: float) -> None:
        """This agent has killed it."""
        self._killed = {pid: at_s for pid, at_s in self._killed.items() if now_s - at_s <= KILLED_S}
        for pid in (rank.pid, rank.acting_pid, *rank.groups):
            self._killed[pid] = now_s

    def of_event(self, event: Event) -> Owner:
        """What is wrong with a device is its ranks' trouble, whoever used it last; the rest is the process's."""
        by_device = self.of_device(event.device)
        if event.action in _HARDWARE:
            return by_device if by_device is not UNKNOWN else self._known_rank(event)
        by_process = self._of_process(event)
        says_more = by_process.ranks or by_process.foreign or by_device is UNKNOWN
        return by_process if says_more else by_device

    def of_rank(self, pid: int) -> Owner:
        """Of a process that is a rank."""
        return self._processes(time.time())[0].get(pid, UNKNOWN)

    def of_device(self, device: str) -> Owner:
        """By UUID."""
        found: dict[str, list[int]] = {}
        all_devices = set()
        for job in self._jobs:
            for rank in job.newest():
                its = self._device_of(rank)
                all_devices.add(its)
                if its and its == device:
                    found.setdefault(job.run_id, []).append(rank.identity.rank)
        if found:
            run_id, ranks = next(iter(found.items()))
            return Owner(run_id, tuple(sorted(ranks)))
        # A node without ranks is somebody's spare: what is wrong with its GPUs matters.
        known = bool(all_devices) and all(each.startswith(GPU) for each in (device, *all_devices))
        return FOREIGN if known else UNKNOWN

    def is_ours(self, event: Event, owner: Owner, now_s: float) -> bool:
        """Whether it follows from a kill by this agent. A device that is broken is so whomever the line names."""
        if event.kind != "xid" or event.action in _HARDWARE or owner.foreign:
            return False
        at_s = self._killed.get(event.pid or 0)
        if at_s is not None and now_s - at_s < KILLED_S:
            return True
        return event.code == PREEMPTIVE_REMOVAL and any(now_s - each < CLEANUP_S for each in self._killed.values())

    # ------------------------------------------------------------- processes

    def _known_rank(self, event: Event) -> Owner:
        owner = self._of_process(event)
        return UNKNOWN if owner.foreign else owner

    def _of_process(self, event: Event) -> Owner:
        if event.pid is None or not self._pids_are_ours:
            return UNKNOWN
        by_pid, by_group = self._processes(event.at_unix_s)
        if event.pid in by_pid:
            return by_pid[event.pid]
        try:
            stat = procfs.read_stat(event.pid)
            if _started_unix_s(stat.start_ticks) > event.at_unix_s + _SLACK_S:
                return UNKNOWN  # the pid is used again
            if stat.group in by_group:
                return by_group[stat.group]
            for _ in range(_ANCESTORS):
                if stat.parent in by_pid:
                    return by_pid[stat.parent]
                if stat.parent <= 1:
                    break
                stat = procfs.read_stat(stat.parent)
        except ProcessLookupError:
            return UNKNOWN
        return self._of_environment(event.pid)

    def _processes(self, at_unix_s: float) -> tuple[dict[int, Owner], dict[int, Owner]]:
        """Owners by pid and by process group, of the ranks that had begun then and of their torchruns."""
        ago_s = time.time() - at_unix_s
        then_ns = int((time.monotonic() - ago_s + _SLACK_S) * 1e9)
        by_pid: dict[int, Owner] = {}
        by_group: dict[int, Owner] = {}
        for job in self._jobs:
            if job.torchrun_pid:
                by_pid[job.torchrun_pid] = Owner(job.run_id)
            for rank in job.ranks:
                if rank.born_ns is not None and rank.born_ns > then_ns:
                    continue
                owner = Owner(job.run_id, (rank.identity.rank,))
                pids = [rank.pid] if rank.inner is None else [rank.pid, rank.inner.pid]
                by_pid.update(dict.fromkeys(pids, owner))
                by_group.update(dict.fromkeys(rank.groups, owner))
        return by_pid, by_group

    def _of_environment(self, pid: int) -> Owner:
        """What a rank started may have left its group and its parents, hardly its environment."""
        if procfs.owner_of(pid) not in {None, *(job.uid for job in self._jobs)}:
            return FOREIGN
        environ = procfs.read_environ(pid)
        if not environ:
            return UNKNOWN  # gone, or not ours to look into
        for job in self._jobs:
            if environ.get("TORCHELASTIC_RUN_ID") == job.run_id and procfs.owner_of(pid) == job.uid:
                number = environ.get("RANK", "")
                known = {rank.identity.rank for rank in job.ranks}
                return Owner(job.run_id, (int(number),) if number.isdigit() and int(number) in known else ())
        return FOREIGN


def counts_pids_as_we_do(kmsg_path: Path) -> bool:
    """A file or FIFO is somebody's on this machine who sees our pids; the device has those of the machine."""
    try:
        return not kmsg_path.is_char_device() or Path("/proc/self/ns/pid").stat().st_ino == _MACHINE_PID_NAMESPACE
    except OSError:
        return False


def _started_unix_s(start_ticks: int) -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + start_ticks / _TICKS_A_SECOND
