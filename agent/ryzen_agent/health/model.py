"""What collectors say. Three things of different lives, all plain frozen records:

    Event       happened once (an Xid, an out-of-memory kill): history, kept on disk until the coordinator has it
    Condition   stands until it is not said any more (a lost GPU, a port that is down): a level
    Sample      a measurement (a temperature): the newest is what the exporters hand out

A collector says what it sees and what the maker of the device says should be done; it decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ryzen_telemetry.records import Sample

Kind: TypeAlias = Literal[
    "xid", "sxid", "nvlink", "oom", "mce", "aer", "hung_task", "lockup", "nfs", "filesystem", "nvme", "ib", "nccl",
    "thermal", "gpu", "clock", "other",
]  # fmt: skip
Severity: TypeAlias = Literal["info", "warning", "critical"]
Action: TypeAlias = Literal[
    "ignore",
    "watch_repeat",
    "restart_app",
    "restart_app_then_repeat",
    "follow_other",
    "reset_gpu",
    "reboot",
    "drain_service",
]
"""The words of the Xid table once it has been resolved. To a training job the last three all mean: not on this node."""

MESSAGE_CHARS = 300

__all__ = ["Action", "Condition", "Event", "Kind", "Reading", "Sample", "Severity"]


@dataclass(frozen=True, slots=True)
class Event:
    """`at_unix_s`: when it happened; `device`: GPU UUID where known, else the PCI address, a port, "" for the node.

    `unit`: the part of the device ("GPC 1 TPC 3", "link 14"); `count`: how many equal lines of one burst this is.
    """

    kind: Kind
    message: str
    at_unix_s: float
    code: int = 0
    device: str = ""
    pci: str = ""
    unit: str = ""
    fault_class: str = ""
    action: Action = "watch_repeat"
    pid: int | None = None
    process: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """`name` and `device` tell one from another. `value` was measured against `limit`, in the unit the name says."""

    name: str
    message: str
    device: str = ""
    severity: Severity = "warning"
    action: Action = "watch_repeat"
    pci: str = ""
    value: float | None = None
    limit: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (self.name, self.device)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look has seen: conditions and samples whole, events since the look before.

    `devices`: (PCI address "0000:05:00", UUID) of the GPUs that were seen, so that others can name them.
    """

    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    samples: tuple[Sample, ...] = ()
    devices: tuple[tuple[str, str], ...] = field(default=())
    processes: tuple[tuple[int, str], ...] = field(default=())
    """(pid, UUID) of the processes that compute on a GPU, in this agent's pid namespace or its driver's."""
