"""Who waits for whom, by the flight recorders of the ranks: a graph over the ranks of a stalled world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ryzen_coordinator.core.events import Collective
from ryzen_coordinator.core.evidence import RankView

Groups: TypeAlias = Mapping[str, frozenset[int]]
"""Global ranks by the name of the process group."""

POINT_TO_POINT = frozenset({"send", "recv", "recv_any_source", "isend", "irecv", "coalesced"})
"""Not done by every member of the group, so their sequence numbers say nothing of the others."""


@dataclass(slots=True)
class Waits:
    """`entered`: the newest sequence number by group and rank; `pending`: collectives that a rank has begun and not
    done, oldest first; `on`: the ranks that have not entered one of those."""

    entered: dict[str, dict[int, int]] = field(default_factory=dict)
    pending: dict[int, list[Collective]] = field(default_factory=dict)
    on: dict[int, set[int]] = field(default_factory=dict)


def wait_graph(living: Sequence[RankView], groups: Groups) -> Waits:
    """The graph of the living ranks. Of a group whose members nobody knows, those that have entered it at all."""
    waits = Waits()
    for view in living:
        for each in view.probe.collectives if view.probe is not None else ():
            known = waits.entered.setdefault(each.group, {})
            known[view.rank] = max(known.get(view.rank, 0), each.sequence)
            if not each.done and each.operation not in POINT_TO_POINT:
                waits.pending.setdefault(view.rank, []).append(each)
    answered = {view.rank for view in living if view.probe is not None and view.probe.recorder}
    late: dict[tuple[str, int], set[int]] = {}  # of each collective, who has not entered it: the same for all that wait
    for rank, pending in waits.pending.items():
        pending.sort(key=lambda each: (each.group, each.sequence))
        missing: set[int] = set()
        for each in pending:
            key = (each.group, each.sequence)
            if key not in late:
                entered = waits.entered[each.group]
                members = groups.get(each.group, frozenset(entered)) & answered
                late[key] = {member for member in members if entered.get(member, 0) < each.sequence}
            missing |= late[key]
        if missing:
            waits.on[rank] = missing - {rank}
    return waits


def knots(edges: Mapping[int, set[int]]) -> list[set[int]]:
    """Sets of ranks that all reach each other (strongly connected, more than one): by closure from both sides."""
    backward: dict[int, set[int]] = {rank: set() for rank in edges}
    for rank, targets in edges.items():
        for target in targets:
            backward[target].add(rank)
    left, knots = set(edges), []
    for rank in sorted(edges):
        if rank not in left or not edges[rank] or not backward[rank]:
            continue
        knot = _reached(edges, rank) & _reached(backward, rank) & left
        knot.add(rank)
        left -= knot
        if len(knot) > 1:
            knots.append(knot)
    return knots


def _reached(edges: Mapping[int, set[int]], start: int) -> set[int]:
    found, todo = {start}, [start]
    while todo:
        new = edges.get(todo.pop(), set()) - found
        found |= new
        todo.extend(new)
    return found
