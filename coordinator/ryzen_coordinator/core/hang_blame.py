"""Whom to blame for a stall: a pure function of what the ranks are known to be in. The first rule that speaks wins.

finished first   a rank has exited 0 while others wait for it in a collective                proof, desynchronised
mismatch         at one sequence number of a group another operation or size                 proof, desynchronised
cycle            A waits in a collective that needs B, and B in one that needs A             proof, once it is settled
never entered    others wait in a collective that these ranks have not entered               proof only if frozen
stacks           most wait in a collective, these do not (where no recorder answers)         proof only if frozen
least progress   these are in the oldest step, and no collective is pending                  proof only if frozen
all entered      everybody is in the same collective and nobody leaves it: the network       names nobody
nothing          names nobody

That a rank has not entered the collective that the others wait in is no evidence by itself: rank 0 in a long
evaluation looks the same. What tells them apart is whether anything of it moves. A thread that is blocked for good
shows one stack and not one read, page fault or context switch; so does C code that spins, but for its CPU time.

The rules follow Meta's and Mycroft's wait-for graphs (missing ranks, then sinks of the graph) and ByteRobust's
grouping of stacks by exact text; process state comes before all of them, in detectors/stall.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ryzen_coordinator.core.events import Collective
from ryzen_coordinator.core.evidence import Finding, RankView, Rule, collective_words
from ryzen_coordinator.core.gaps import FIRST_STEP, START
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.waits import POINT_TO_POINT, Groups, Waits, knots, wait_graph
from ryzen_coordinator.core.words import few

SETTLED_S = 0.9
"""Ranks in a cycle must have stood still for so long: one that still computes may yet enter what it is waited for."""

PATIENCE_S = 3 * SETTLED_S
"""So long a cycle waits to hear of ranks that decide which of its sides is the odd one; then nobody is named."""

_NAMED = 8
_SAME_SHAPE = frozenset({"all_reduce", "broadcast", "reduce", "allreduce", "allreduce_coalesced"})
"""Operations whose input has one size on all ranks."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What every rule looks at. `living`: of all ranks those whose process is there."""

    all: Sequence[RankView]
    living: list[RankView]
    waits: Waits
    groups: Groups
    settings: CoreSettings


def blame(views: Sequence[RankView], groups: Groups, settings: CoreSettings) -> Finding:
    """The finding on a stalled world. `groups`: global ranks of the process groups whose members are known."""
    living = [view for view in views if not view.state.startswith("exited")]
    scene = _Scene(views, living, wait_graph(living, groups), groups, settings)
    considered = ["process state: no rank is stopped, a zombie or dead"]
    for rule in (_finished_first, _mismatch, _cycle, _never_entered, _by_stacks, _least_progress, _all_entered):
        found = rule(scene)
        if isinstance(found, Finding):
            return replace(found, considered=tuple(considered))
        considered.append(found)
    return Finding("nothing", (), "nothing separates the ranks", considered=tuple(considered))


# ---------------------------------------------------------------------- proofs


def _finished_first(scene: _Scene) -> Finding | str:
    waiting = [view for view in scene.living if _in_collective(view)]
    most = max((view.steps_done for view in waiting), default=0)
    # A rank that has left is only missed by a group that it belongs to.
    names = {each.group for view in waiting for each in scene.waits.pending.get(view.rank, ())}
    members = frozenset().union(*(scene.groups.get(name, frozenset()) for name in names))
    left = (view for view in scene.all if view.state == "exited 0" and view.steps_done > most)
    done = tuple(view.rank for view in left if view.rank in members)
    if not done or not waiting or not all(_settled(view) for view in waiting):
        return "finished first: no rank has exited 0 while others wait for it"
    words = (
        f"{_ranks(done)} had done all steps and left while {_ranks(v.rank for v in waiting)} still wait in a collective"
    )
    named = done if 2 * len(done) < len(scene.all) else ()
    return Finding("finished first", named, words, proof=True, desync=True)


def _mismatch(scene: _Scene) -> Finding | str:
    seen: dict[tuple[str, int], dict[int, Collective]] = {}
    for view in scene.living:
        for each in view.probe.collectives if view.probe is not None else ():
            if each.operation not in POINT_TO_POINT:
                seen.setdefault((each.group, each.sequence), {})[view.rank] = each
    for (group, sequence), by_rank in sorted(seen.items()):
        kinds = Counter(_signature(each) for each in by_rank.values())
        if len(kinds) < 2 or all(each.done for each in by_rank.values()):
            continue
        usual, count = kinds.most_common(1)[0]
        odd = tuple(sorted(rank for rank, each in by_rank.items() if _signature(each) != usual))
        named = odd if 2 * count > len(by_rank) else ()
        told = "; ".join(f"{_ranks(_who(by_rank, kind))}: {kind[0]} {kind[1]}".rstrip() for kind in sorted(kinds))
        words = f"collective {sequence} of group {group} is not the same everywhere: {told}"
        return Finding("mismatch", named, words, proof=True, desync=True)
    return "mismatch: no two ranks have another operation or size at one sequence number"


def _cycle(scene: _Scene) -> Finding | str:
    by_rank = {view.rank: view for view in scene.living}
    settled = {rank for rank in scene.waits.on if _in_collective(by_rank[rank]) and _settled(by_rank[rank])}
    for members in knots({rank: scene.waits.on[rank] & settled for rank in settled}):
        sides: dict[str, list[int]] = {}
        for rank in sorted(members):
            sides.setdefault(scene.waits.pending[rank][0].group, []).append(rank)
        if len(sides) < 2:
            continue  # one group alone is no cycle: somebody is only late
        smallest = min(sides.values(), key=len)
        alone = sum(len(side) == len(smallest) for side in sides.values()) == 1
        others = _members_of(sides, scene) - members
        certain = 2 * (len(smallest) + len(others)) < len(members) + len(
            others
        )  # whichever side the others turn out on
        if not certain and others and max(_frozen_s(by_rank[rank]) for rank in members) < PATIENCE_S:
            return f"cycle: there is one, but it is not known yet where {_ranks(sorted(others))} stands"
        named = tuple(smallest) if alone and certain else ()
        told = "; ".join(
            f"{_ranks(side)}: {collective_words(scene.waits.pending[side[0]][0])}" for _, side in sorted(sides.items())
        )
        return Finding("cycle", named, f"they wait for each other: {told}", proof=True)
    return "cycle: no two ranks wait for each other in different collectives"


def _members_of(groups: Iterable[str], scene: _Scene) -> set[int]:
    """Living ranks of these process groups; all of them where the members of one are not known."""
    living = {view.rank for view in scene.living}
    found: set[int] = set()
    for each in groups:
        found |= scene.groups.get(each) or living
    return found & living


# ---------------------------------------------------------------------- suspects, proven only if frozen


def _never_entered(scene: _Scene) -> Finding | str:
    waited_for = set().union(*scene.waits.on.values()) if scene.waits.on else set()
    blocked = {view.rank for view in scene.living if view.rank in scene.waits.on and _in_collective(view)}
    sinks = tuple(sorted(waited_for - blocked))
    if not sinks:
        return "never entered: by the flight recorders nobody is missing from a collective that others are in"
    what = next(
        each
        for rank in sorted(scene.waits.on)
        for each in scene.waits.pending[rank]
        if scene.waits.on[rank] & set(sinks)
    )
    waiting = [rank for rank in scene.waits.on if scene.waits.on[rank] & set(sinks)]
    words = f"{_ranks(waiting)} wait in {collective_words(what)}, which {_ranks(sinks)} has not entered"
    return _suspects("never entered", sinks, words, scene)


def _by_stacks(scene: _Scene) -> Finding | str:
    known = [view for view in scene.living if view.probe is not None and (view.probe.stack or view.probe.recorder)]
    inside = [view for view in known if _in_collective(view)]
    within = {view.rank for view in inside}
    outside = tuple(view.rank for view in scene.living if view.rank not in within)
    if not outside or 2 * len(inside) <= len(scene.living):
        return "stacks: they do not show most ranks in a collective and a few outside"
    words = (
        f"{len(inside)} of {len(scene.living)} ranks wait in a collective by their stacks, {_ranks(outside)} is outside"
    )
    return _suspects("stacks", outside, words, scene)


def _least_progress(scene: _Scene) -> Finding | str:
    if scene.waits.pending or any(_in_collective(view) for view in scene.living):
        return "least progress: a collective is pending, in which all that wait look equal"
    first = min((view.step for view in scene.living), default=-1)
    behind = tuple(view.rank for view in scene.living if view.step == first)
    if not behind or 2 * len(behind) >= len(scene.living):
        return "least progress: no minority is in an older step"
    return _suspects("least progress", behind, f"{_ranks(behind)} is still in step {first}", scene)


def _suspects(rule: Rule, ranks: tuple[int, ...], words: str, scene: _Scene) -> Finding:
    """Proof if each of them is frozen: if one still moves, the others may be waiting for it in their own way."""
    if 2 * len(ranks) > len(scene.living):
        return Finding("nothing", (), f"{words}; these are too many to be the culprits")
    chosen = [view for view in scene.living if view.rank in ranks]
    frozen = [view for view in chosen if _frozen(view, scene.settings)]
    if frozen and len(frozen) == len(chosen):
        return Finding(rule, ranks, f"{words}; {'; '.join(_still(view) for view in frozen[:_NAMED])}", proof=True)
    told = "; ".join(_at(view) for view in chosen[:_NAMED])
    return Finding(rule, ranks, f"{words}; {told}" if told else words)


# ---------------------------------------------------------------------- nobody


def _all_entered(scene: _Scene) -> Finding | str:
    if not scene.waits.pending or scene.waits.on or len(scene.waits.pending) < len(scene.living):
        return "all entered: not every rank is in a collective"
    groups: dict[str, set[int]] = {}
    for rank, each in scene.waits.pending.items():
        groups.setdefault(each[0].group, set()).add(rank)
    _, members = min(groups.items(), key=lambda item: (len(item[1]), item[0]))
    what = collective_words(scene.waits.pending[min(members)][0])
    words = f"all of {_ranks(members)} have entered {what} and none leaves it: the link between them, or the library"
    return Finding("all entered", (), words)


# ---------------------------------------------------------------------- one rank


def _in_collective(view: RankView) -> bool:
    return view.probe is not None and view.probe.in_collective


def _settled(view: RankView) -> bool:
    return _frozen_s(view) >= SETTLED_S


def _frozen_s(view: RankView) -> float:
    return view.probe.frozen_s if view.probe is not None else 0.0


def _frozen(view: RankView, settings: CoreSettings) -> bool:
    """Not one that waits in a collective or in the kernel (I/O), not under a debugger, not before its silence is longer
    than a section of its kind may be; and one that uses the CPU not while the job is starting."""
    probe = view.probe
    if probe is None or not probe.stack or probe.in_collective or view.state != "running":
        return False
    if probe.busy and view.section in {START, FIRST_STEP}:
        return False
    return probe.frozen_s >= settings.frozen_stack_s and view.quiet_s > view.limit_s


def _signature(each: Collective) -> tuple[str, str]:
    return (each.operation, _amount(each.shape) if each.operation in _SAME_SHAPE else "")


def _amount(shape: str) -> str:
    """Type and number of elements: [] and [1], [2,3] and [6] are summed all the same."""
    kind, _, sizes = shape.partition("[")
    numbers = [int(size) for size in sizes.rstrip("]").split(",") if size.strip().isdigit()]
    return f"{kind} x {math.prod(numbers)}" if " " not in shape else shape


def _who(by_rank: Mapping[int, Collective], kind: tuple[str, str]) -> list[int]:
    return sorted(rank for rank, each in by_rank.items() if _signature(each) == kind)


def _still(view: RankView) -> str:
    assert view.probe is not None  # noqa: S101 - it is frozen
    how = "spinning in C code" if view.probe.busy else "blocked"
    return f"rank {view.rank} ({view.node}) has not moved for {view.probe.frozen_s:.0f} s, {how}, at {_place(view)}"


def _at(view: RankView) -> str:
    probe = view.probe
    if probe is None or not probe.samples:
        return f"of rank {view.rank} ({view.node}) nothing more is known"
    moves = f"still for {probe.frozen_s:.0f} s" if probe.frozen_s > 0 else "it moves"
    return f"rank {view.rank} ({view.node}) is at {_place(view)}, {moves}{', busy' if probe.busy else ''}"


def _place(view: RankView) -> str:
    return view.stack.partition("\n")[0] or view.section or "an unknown place"


def _ranks(ranks: Iterable[int]) -> str:
    ordered = sorted(ranks)
    return f"{'rank' if len(ordered) == 1 else 'ranks'} {few(ordered)}"
