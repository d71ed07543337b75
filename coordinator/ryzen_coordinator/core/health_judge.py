"""What a health event means, from the event and the history alone: a pure judgement with its reason in words.

    evict      the maker of the device says that it needs a reset, a reboot or service: no rank can work there
    restart    the process is lost and the device is not: an application fault, until it repeats
    note       evidence for whatever else happens

Xid 13 and 31 (`restart_app_then_repeat`) are the application's fault far oftener than the GPU's (NVIDIA's catalogue:
"typically these are application-level bugs, but can also be driver bugs or hardware bugs"). What tells them apart is
whom they follow (WORKFLOW_XID_13, WORKFLOW_XID_31): the same GPU, and for 13 the same GPC and TPC, again within 24 h,
while no other node shows it. A fault that two nodes show at once, or that has moved from node to node with the job, is
the application's, and nobody is ever evicted for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen
from ryzen_coordinator.core.health_record import (
    HISTORY_S,
    ILLEGAL_INSTRUCTION,
    RECOVERY_ACTION,
    Burst,
    same_device,
    window_s,
)
from ryzen_coordinator.core.words import few

Course: TypeAlias = Literal["evict", "restart", "note"]
Whose: TypeAlias = Literal["device", "application", "unknown"]

EVICTING = frozenset({"reset_gpu", "reboot", "drain_service"})
REPEATING = "restart_app_then_repeat"
RESTARTING = frozenset({"restart_app", REPEATING, "follow_154"})
"""`follow_154`: what the driver states by Xid 154 comes as an event of its own; without it, restart (the catalogue)."""
FOLLOWED_S = 3600.0
"""A fault that repeated on one node and so soon after is on another, in the same job, has followed the job."""


class Judgement(NamedTuple):
    """Whose fault a burst is, and why."""

    whose: Whose
    words: str


def course(seen: HealthSeen, evict_on: Iterable[int]) -> Course:
    """What the event asks for by itself, if it concerns us. `evict_on`: Xids for which the rule is literal."""
    if seen.action in EVICTING or (seen.kind == "xid" and seen.code in evict_on):
        return "evict"
    return "restart" if seen.kind == "xid" and seen.action in RESTARTING else "note"


def condition_evicts(seen: ConditionSeen) -> bool:
    """The device cannot be worked with for as long as this stands."""
    return seen.severity == "critical" and seen.action in EVICTING and not seen.foreign


def recovers(seen: HealthSeen) -> bool:
    """The driver says that nothing needs to be done about the device any more: Xid 154 "... to 0x0 (None)"."""
    return seen.kind == "xid" and seen.code == RECOVERY_ACTION and seen.action == "ignore"


def whose(burst: Burst, history: Iterable[Burst]) -> Judgement:
    """Whose fault a burst that asks for a restart is. `history`: the bursts of all nodes, this one among them."""
    alike = [each for each in history if (each.kind, each.code) == (burst.kind, burst.code) and _recent(each, burst)]
    others = sorted({each.node for each in alike if _shown_together(burst, each)})
    if others:
        nodes = few(sorted({burst.node, *others}))
        return Judgement("application", f"seen on several nodes at once ({nodes}): the application's fault")
    if burst.action != REPEATING or not burst.device:
        return Judgement("unknown", "an application fault until it repeats")
    if burst.code == ILLEGAL_INSTRUCTION and not burst.unit:
        return Judgement("unknown", "an application fault: which part of the GPU it was is not known")
    earlier = [each for each in alike if _same_place(each, burst) and not _shared(each, alike)]
    if not earlier:
        return Judgement("unknown", "an application fault until it repeats")
    moved = _where_it_was(burst, alike)
    if moved is not None:
        return Judgement("application", f"it had repeated on {moved} and has followed the job: the application's fault")
    place = f"the same part ({burst.unit}) of the same GPU" if burst.code == ILLEGAL_INSTRUCTION else "the same GPU"
    times = len(earlier) + 1
    return Judgement("device", f"{times} times on {place} within 24 h, on no other node: the fault follows the node")


def _recent(each: Burst, burst: Burst) -> bool:
    return abs(burst.last_unix_s - each.last_unix_s) <= HISTORY_S


def _same_job(one: Burst, other: Burst) -> bool:
    """As far as is known: an event whose process nobody knows may be of any."""
    return not one.run_id or not other.run_id or (one.user, one.run_id) == (other.user, other.run_id)


def _shown_together(one: Burst, other: Burst) -> bool:
    """Two nodes of one job, within one window or in one generation."""
    if one.node == other.node or not _same_job(one, other):
        return False
    window = window_s(one.code)
    near = other.first_unix_s <= one.last_unix_s + window and other.last_unix_s >= one.first_unix_s - window
    return near or (one.run_id != "" and one.run_id == other.run_id and one.generation == other.generation != 0)


def _shared(burst: Burst, alike: Iterable[Burst]) -> bool:
    return any(_shown_together(burst, each) for each in alike)


def _same_place(each: Burst, burst: Burst) -> bool:
    if each == burst or not same_device(each, burst):
        return False
    return each.first_unix_s <= burst.first_unix_s and (burst.code != ILLEGAL_INSTRUCTION or each.unit == burst.unit)


def _where_it_was(burst: Burst, alike: list[Burst]) -> str | None:
    """Another node on which the same fault of the same job had repeated shortly before."""
    for each in alike:
        soon = 0.0 <= burst.first_unix_s - each.last_unix_s <= FOLLOWED_S
        elsewhere = each.node != burst.node and _same_job(each, burst)
        if elsewhere and soon and any(_same_place(before, each) for before in alike):
            return each.node
    return None
