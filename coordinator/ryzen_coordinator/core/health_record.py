"""What is remembered of a node's health. Frozen records, replaced when they change; no decision.

Equal lines of one fault are one `Burst`: of the same device and part of it, struck in the same generation of the same
job, each within `window_s` of the one before. A restart in between begins another one: the processes are others then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen

HISTORY_S = 86400.0
"""How long a fault counts: 24 h, as NVSentinel's rules for repeated Xids (health-events-analyzer)."""
NEAR_S = 5.0
"""A rank that ends and a line of the kernel log about its node within so long have one cause. The driver ends a process
within a second or two of its Xid; longer would join what has nothing to do with each other."""
BURSTS_KEPT = 32
"""Of one node. A node with more of them within a day has long been judged."""
ILLEGAL_INSTRUCTION, PAGE_FAULT, RECOVERY_ACTION = 13, 31, 154
"""Xids with a rule of their own; the rest is the agent's table."""
_WINDOWS_S = {ILLEGAL_INSTRUCTION: 15.0}
_WINDOW_S = 180.0


@dataclass(frozen=True, slots=True)
class Burst:
    """`generation`: of job (`user`, `run_id`) when it struck, 0 where none did; times are ours since 1970."""

    node: str
    kind: str
    code: int
    device: str
    unit: str
    action: str
    message: str
    first_unix_s: float
    last_unix_s: float
    count: int = 1
    user: str = ""
    run_id: str = ""
    generation: int = 0
    ranks: tuple[int, ...] = ()
    pci: str = ""

    def words(self) -> str:
        name = {"xid": f"Xid {self.code}", "sxid": f"SXid {self.code}"}.get(self.kind, self.kind)
        where = ", ".join(part for part in (self.node, self.device, self.unit) if part)
        said = self.message.rstrip(".")
        if said.startswith(name):
            return f"{said} ({where})"
        return f"{name} ({where}): {said}" if said else f"{name} ({where})"


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """`event_id`: of the newest event that was taken in; a repeated one is not above it. `pardoned`: conditions that
    stood when the node was readmitted: whoever did that knows of them.
    """

    event_id: int = 0
    evicted_unix_s: float = 0.0
    readmitted_unix_s: float = 0.0
    bursts: tuple[Burst, ...] = ()
    pardoned: frozenset[tuple[str, str]] = frozenset()
    conditions: tuple[ConditionSeen, ...] = ()


NO_HEALTH = NodeHealth()


def window_s(code: int) -> float:
    """Lines so close together are one fault: 15 s for Xid 13, 3 min for 31 and the rest (NVSentinel, as above)."""
    return _WINDOWS_S.get(code, _WINDOW_S)


def with_burst(bursts: tuple[Burst, ...], new: Burst) -> tuple[tuple[Burst, ...], Burst]:
    """The history with `new` in it, and the burst that it is now part of."""
    kept = [each for each in bursts if new.last_unix_s - each.last_unix_s <= HISTORY_S]
    for place, each in enumerate(kept):
        if _same_fault(each, new) and abs(new.first_unix_s - each.last_unix_s) <= window_s(new.code):
            new = replace(
                each,
                first_unix_s=min(each.first_unix_s, new.first_unix_s),
                last_unix_s=max(each.last_unix_s, new.last_unix_s),
                count=each.count + new.count,
                ranks=each.ranks or new.ranks,
            )
            del kept[place]
            break
    return (*kept[1 - BURSTS_KEPT :], new), new


def same_device(one: Burst, other: Burst) -> bool:
    """Of one node. Before the agent has seen the GPUs it knows one by its PCI address alone, not by its UUID."""
    if one.node != other.node:
        return False
    return (one.device != "" and one.device == other.device) or (one.pci != "" and one.pci == other.pci)


def newest_like(bursts: tuple[Burst, ...], seen: HealthSeen) -> Burst | None:
    """The last burst of this fault on this part of the device."""
    like = (seen.kind, seen.code, seen.device, seen.unit)
    return next((each for each in reversed(bursts) if (each.kind, each.code, each.device, each.unit) == like), None)


def _same_fault(one: Burst, other: Burst) -> bool:
    return _fault(one) == _fault(other)


def _fault(burst: Burst) -> tuple[object, ...]:
    part = (burst.kind, burst.code, burst.device, burst.unit, burst.action)
    return (*part, burst.user, burst.run_id, burst.generation)
