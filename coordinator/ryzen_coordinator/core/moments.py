"""The ranks of a world at one moment: as the blame sees them, and as an incident keeps them."""

from __future__ import annotations

from collections.abc import Iterable

from ryzen_coordinator.core.events import ProgressSeen, RankSeen
from ryzen_coordinator.core.evidence import Finding, RankMoment, RankView, StackGroup, collective_words
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Incident, Job

_STATES = {"T": "stopped", "t": "traced", "Z": "zombie", "D": "uninterruptible"}
_GROUP_WHOLE = 4096
"""So many of a group's ranks are told at most."""

_RANKS_KEPT = 64
_STACKS_KEPT = 8
_STACK_RANKS_KEPT = 256


def views(cluster: Cluster, job: Job) -> list[RankView]:
    """Every rank of the world that has been seen, by rank."""
    found = [
        _view(cluster, job, member, rank, progress)
        for member in job.world_members()
        for rank, progress in member.rows()
        if rank.generation == job.table.generation
    ]
    return sorted(found, key=lambda view: view.rank)


def groups(job: Job) -> dict[str, frozenset[int]]:
    """Global ranks of the process groups, as far as any node knows them."""
    known: dict[str, frozenset[int]] = {}
    for member in job.world_members():
        for name, ranks in member.groups.items():
            if name not in known:  # every member of a group tells of all of it; one too large to tell is everybody
                known[name] = frozenset(range(len(job.table.alive)) if len(ranks) >= _GROUP_WHOLE else ranks)
    return known


def keep(cluster: Cluster, incident: Incident, seen: list[RankView], finding: Finding | None = None) -> None:
    """Store what was seen with the incident: stacks grouped, where each rank was, what else was considered."""
    named = set(finding.ranks) if finding is not None else set()
    incident.stacks = _grouped(seen)
    chosen = sorted(seen, key=lambda view: (view.rank not in named, view.rank))[:_RANKS_KEPT]
    incident.ranks = sorted((_moment(view) for view in chosen), key=lambda moment: moment.rank)
    if finding is not None:
        incident.considered = list(finding.considered)
    cluster.incident_changed(incident)


def _view(cluster: Cluster, job: Job, member: Member, rank: RankSeen, progress: ProgressSeen | None) -> RankView:
    table = job.table
    known = rank.rank < len(table.section)
    section = table.sections[int(table.section[rank.rank])] if known else ""
    return RankView(
        rank=rank.rank,
        node=member.node,
        step=progress.step if progress is not None else -1,
        section=section,
        quiet_s=cluster.now_s - float(table.changed_s[rank.rank]) if known else 0.0,
        limit_s=job.gaps.patient_limit_s(section, cluster.settings),
        state=_state(rank),
        steps_done=progress.steps_done if progress is not None else 0,
        probe=rank.probe,
        stack=member.stacks.get(rank.probe.stack, "") if rank.probe is not None else "",
    )


def _state(rank: RankSeen) -> str:
    if rank.life == "exited":
        return "exited" if rank.exit_code is None else f"exited {rank.exit_code}"
    if rank.life == "failing":
        return f"failing: {rank.error_type}"
    return _STATES.get(rank.process_state, "running")


def _grouped(seen: Iterable[RankView]) -> list[StackGroup]:
    """By exact text, most ranks first."""
    ranks: dict[str, list[int]] = {}
    for view in seen:
        if view.stack:
            ranks.setdefault(view.stack, []).append(view.rank)
    ordered = sorted(ranks.items(), key=lambda item: (-len(item[1]), item[1]))
    # The small groups are the ones that matter: of many keep the largest and the smallest.
    chosen = ordered if len(ordered) <= _STACKS_KEPT else [ordered[0], *ordered[1 - _STACKS_KEPT :]]
    return [StackGroup(text, tuple(each[:_STACK_RANKS_KEPT])) for text, each in chosen]


def _moment(view: RankView) -> RankMoment:
    probe = view.probe
    inside = [each for each in probe.collectives if not each.done] if probe is not None else []
    return RankMoment(
        rank=view.rank,
        node=view.node,
        step=view.step,
        section=view.section,
        quiet_s=round(view.quiet_s, 3),
        state=_state_words(view),
        collective=collective_words(inside[0]) if inside else "",
    )


def _state_words(view: RankView) -> str:
    probe = view.probe
    if view.state != "running" or probe is None:
        return view.state
    where = f" in {probe.wait_channel}" if probe.wait_channel not in {"", "0"} else ""
    moves = f", still for {probe.frozen_s:.1f} s" if probe.frozen_s > 0 else ""
    return f"{'busy' if probe.busy else 'asleep'}{where}{moves}"
