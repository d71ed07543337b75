"""What a node's kernel log or GPU driver says: a line in the file that its agent reads, or the mock driver's readings.

Nothing else happens: the struck rank goes on, as one does for a moment on a real GPU. Every node of a trial has such a
file and a place for a driver, so that the product cannot tell from them that it is to be struck.
"""

from __future__ import annotations

from typing import ClassVar

from ryzen_lab.cluster import Cluster
from ryzen_lab.errors import LabError, UsageError
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.faults.signals import needed_rank
from ryzen_lab.mock_nvml import Faults
from ryzen_lab.record import Injection, Rank

XIDS = {
    "13": "pid={pid}, name=python3, Graphics SM Warp Exception on (GPC 1, TPC 3, SM 0): Out Of Range Address",
    "31": "pid={pid}, name=python3, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ "
    "0x7f2c_a0000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ",
    "43": "pid={pid}, name=python3, Ch 00000008",
    "45": "pid={pid}, name=python3, Ch 00000010",
    "48": "pid='<unknown>', name=<unknown>, DBE (double bit error) ECC Error: 0x0 0x0",
    "63": "pid='<unknown>', name=<unknown>, Row Remapper: New row marked for remapping, reset gpu to activate.",
    "74": "pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 14"
    "(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    "79": "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "94": "pid={pid}, name=python3, Contained: SM (0x1). RST: No, D-RST: No",
    "95": "pid={pid}, Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No",
    "119": "pid={pid}, name=python3, Timeout after 6s of waiting for RPC response from GPU4 GSP! Expected function 103 "
    "(GSP_RM_ALLOC) (0x2081 0x4).",
    "154": "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
    "154:none": "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
}  # fmt: skip
"""What follows `NVRM: Xid (PCI:...): N, ` in lines of real drivers, by what `--xid` is told."""
INNOCENT = frozenset({"43", "45", "63", "154:none"})
"""Those that ask for nothing: another Xid's or a kill's consequences, a row remapped, a device recovered."""


class Xid(Fault):
    """One line of NVIDIA's driver in the kernel log of the struck rank's node, about that rank's GPU."""

    kind = "xid"
    target = Target.RANK
    needs_agent: ClassVar[bool] = True
    needs_driver: ClassVar[bool] = True
    what = "79"

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        code, _, _ = self.what.partition(":")
        pci = Faults.pci(rank.local_rank)
        words = XIDS[self.what].format(pid=_named_pid(cluster, rank) if code == "45" else rank.pid)
        injection = self.done(cluster, aim, [rank.pid] if self.interrupts else [], where=f"Xid {self.what} of {pci}")
        cluster.node(rank.node).kernel_says(f"NVRM: Xid (PCI:{pci}): {code}, {words}")
        return injection


class Thermal(Fault):
    """The struck rank's GPU is 93 degrees hot and slowed down by its hardware. Training goes on, slower at most."""

    kind = "thermal"
    target = Target.RANK
    interrupts = False
    needs_agent: ClassVar[bool] = True
    needs_driver: ClassVar[bool] = True

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        injection = self.done(cluster, aim, [])
        _driver(cluster, rank).gpu(rank.local_rank, temperature_c=93, clock_event_reasons=0x48)
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:
        rank = needed_rank(aim)
        _driver(cluster, rank).gpu(rank.local_rank, temperature_c=45, clock_event_reasons=0)


class GpuLost(Fault):
    """The driver says of the struck rank's GPU that it is lost, whatever is asked. The kernel log is silent."""

    kind = "gpu-lost"
    target = Target.RANK
    needs_agent: ClassVar[bool] = True
    needs_driver: ClassVar[bool] = True

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        injection = self.done(cluster, aim, [rank.pid])
        _driver(cluster, rank).gpu(rank.local_rank, error=15)
        return injection


def tell_xids(faults: list[Fault], text: str) -> None:
    """Which Xid each fault of that kind is, in turn; the last one for those that are left. Raises UsageError."""
    numbers = [each.strip() for each in text.split(",")]
    for each in numbers:
        if each not in XIDS:
            raise UsageError(f"option --xid: {each!r} is not allowed: {', '.join(XIDS)}")
    for place, fault in enumerate(each for each in faults if isinstance(each, Xid)):
        fault.what = numbers[min(place, len(numbers) - 1)]
        fault.interrupts = fault.what not in INNOCENT


def _named_pid(cluster: Cluster, rank: Rank) -> int:
    """A clean-up names a process that has ended: the last one there, where there is one."""
    dead = [each for each in cluster.observer.record.ranks if each.node == rank.node and each.died_ns is not None]
    return max(dead, key=lambda each: each.died_ns or 0).pid if dead else rank.pid


def _driver(cluster: Cluster, rank: Rank) -> Faults:
    driver = cluster.node(rank.node).driver
    if driver is None:
        raise LabError("this fault needs nodes with the mock GPU driver")
    return driver
