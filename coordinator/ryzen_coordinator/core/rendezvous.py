"""Who belongs to the next world: a pure decision that comes with its reason in words.

A generation is first *announced* (old ranks end, torchruns come to the rendezvous) and then *formed* (every
wanted node waits with a store on offer). Until it is formed, the plan is made anew from the present state of
the nodes at each look: a second fault in mid-recovery only changes the plan, and nothing can hang on a
decision that has gone stale.

Group ranks are `slots`. A survivor keeps its slot. A node that is out leaves its name in the slot: if a newcomer
takes it the slot is the newcomer's, else the world is made without it (shrunk, compacted) and the node gets its
old slot back when it returns. Growing beyond that appends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.words import few

Standing: TypeAlias = Literal["ready", "coming", "out"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as the plan sees it. ready: waits in the rendezvous; coming: a survivor that will; out: neither."""

    node: str
    standing: Standing
    hint: int = 0
    ready_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`wanted`: the world in order of group rank; `missing`: of those, who has not joined yet.

    `complete`: enough nodes are wanted and all have joined: the world can be formed now.
    """

    slots: tuple[str, ...]
    wanted: tuple[str, ...]
    missing: frozenset[str]
    complete: bool
    reason: str


def plan_next(slots: tuple[str, ...], candidates: list[Candidate], minimum: int, maximum: int) -> Plan:
    """The world after the first one: survivors in their slots, newcomers in vacant ones, then at the end."""
    standing = {candidate.node: candidate for candidate in candidates}
    newcomers = [c.node for c in _in_order(candidates) if c.standing == "ready" and c.node not in slots]
    filled = list(slots)
    for index, node in enumerate(filled):
        if newcomers and not _in_world(standing.get(node)):
            filled[index] = newcomers.pop(0)
    while newcomers and len(filled) < maximum:
        filled.append(newcomers.pop(0))
    wanted = tuple(node for node in filled if _in_world(standing.get(node)))[:maximum]
    missing = frozenset(node for node in wanted if standing[node].standing != "ready")
    enough = len(wanted) >= minimum
    return Plan(tuple(filled), wanted, missing, enough and not missing, _next_reason(wanted, missing, minimum))


def plan_first(candidates: list[Candidate], minimum: int, maximum: int, settings: CoreSettings, now_s: float) -> Plan:
    """The first world: MAX nodes at once, or at least MIN when no other has come for `form_wait_s`.

    Where --node-rank says that a node below MAX is still to come, one above takes its place only after a while.
    """
    ready = [c for c in _in_order(candidates) if c.standing == "ready"]
    chosen = ready[:maximum]
    wanted = tuple(candidate.node for candidate in chosen)
    if len(ready) < minimum:
        return Plan((), (), frozenset(), False, f"waits for nodes: {len(ready)} of at least {minimum}")
    waited_s = now_s - max(candidate.ready_s for candidate in ready)
    stranger = any(maximum <= candidate.hint < _NO_HINT for candidate in chosen)
    wait_s = settings.form_wait_s if len(ready) < maximum else settings.hint_wait_s if stranger else 0.0
    if waited_s < wait_s:
        what = f"{len(ready)} of {maximum}" if len(ready) < maximum else f"one with a --node-rank below {maximum}"
        return Plan((), (), frozenset(), False, f"waits up to {wait_s:.0f} s for more nodes: {what}")
    return Plan(wanted, wanted, frozenset(), True, "")


_NO_HINT = 1 << 30


def _in_world(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.standing != "out"


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (candidate.hint, candidate.node))


def _next_reason(wanted: tuple[str, ...], missing: frozenset[str], minimum: int) -> str:
    if len(wanted) < minimum:
        return f"waits for nodes: {len(wanted)} of at least {minimum}"
    if missing:
        return f"waits for {few(sorted(missing))} to come to the rendezvous"
    return ""
