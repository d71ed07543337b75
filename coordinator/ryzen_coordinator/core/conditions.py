"""What stands: conditions of nodes, as levels. One that is not said any more has passed.

A critical one whose device needs a reset, a reboot or service evicts, like an event. The rest is advice: an incident
that is open for as long as the condition stands. Nodes that share a label (a rack, a switch, a power feed) and show the
same kind of thing at once are one incident that names the label: where the air fails, the on-call reads one line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from ryzen_coordinator.core import eviction, health_judge, incidents
from ryzen_coordinator.core.blame import FaultClass, Verdict
from ryzen_coordinator.core.events import ConditionSeen
from ryzen_coordinator.core.health_record import Burst
from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.state import Cluster, Incident

THERMAL = frozenset({"gpu.hot", "gpu.throttled", "gpu.heating"})
TOGETHER_LEAST, TOGETHER_SHARE = 2, 0.25
"""So many nodes of a label, and this share of all that carry it, make a fault of what they share."""
AGAIN_S = 600.0
"""A condition that comes back so soon is the same incident: a GPU at its limit throttles a hundred times an hour."""

Label: TypeAlias = tuple[str, str]
_EVERYWHERE: Label = ("all", "nodes")
"""The label that every node has: a file system that all mount, the room. One node more is asked for."""
_EVIDENCE_KEPT = 40
_ADVICE = {
    "reset_gpu": "drain the node and reset the device when convenient",
    "reboot": "drain and reboot the node when convenient",
    "drain_service": "drain the node and have it looked at when convenient",
}
_THERMAL_ADVICE = "look at fans, dust and inlet temperature; a lower power limit costs less than a throttled rank"


def take(cluster: Cluster, node: Node, seen: tuple[ConditionSeen, ...]) -> None:
    """The node's conditions are these now."""
    before, now_unix_s = node.health.conditions, cluster.now_s + cluster.unix_offset_s
    known = {_identity(each) for each in before}
    new = [each for each in seen if _identity(each) not in known]
    present = {_key(each) for each in seen}
    pardoned = _pardoned(node, new, now_unix_s) & present
    if pardoned != node.health.pardoned:
        cluster.durable[("node", node.name)] = None
    node.health = replace(node.health, conditions=seen, pardoned=pardoned)
    if cluster.settings.health_mode == "off" or (not new and len(present) == len({_key(each) for each in before})):
        return
    for each in new:
        if health_judge.condition_evicts(each) and _key(each) not in pardoned:
            eviction.evict(cluster, node, _burst(cluster, node, each))
    _advise(cluster, node, {group for each in (*before, *seen) if (group := _group(each)) is not None})


def _pardoned(node: Node, new: list[ConditionSeen], now_unix_s: float) -> frozenset[tuple[str, str]]:
    """What stood already when somebody let the node in again, heard of then or only now."""
    old = {_key(each) for each in new if now_unix_s - each.age_s < node.health.readmitted_unix_s}
    return node.health.pardoned | old


def fault_class(seen: ConditionSeen) -> FaultClass | None:
    """What there is to say about it; None: it is shown with the node, and that is all."""
    if seen.severity == "info":
        return None
    if seen.name in THERMAL:
        return "thermal"
    family = seen.name.partition(".")[0]
    if family == "gpu" or (seen.severity == "critical" and family not in {"collector", "clock"}):
        return "hardware"
    return "network" if family in {"ib", "net"} else None


def _identity(seen: ConditionSeen) -> tuple[object, ...]:
    """What makes it another one: not its age, nor what is measured."""
    return (seen.name, seen.device, seen.severity, seen.action, seen.foreign)


def _key(seen: ConditionSeen) -> tuple[str, str]:
    return (seen.name, seen.device)


def _burst(cluster: Cluster, node: Node, seen: ConditionSeen) -> Burst:
    since_unix_s = cluster.now_s + cluster.unix_offset_s - seen.age_s
    what = (seen.name, 0, seen.device, "", seen.action, seen.message)
    return Burst(node.name, *what, since_unix_s, since_unix_s, run_id=seen.run_id, ranks=seen.ranks)


# ---------------------------------------------------------------- advice


def _advise(cluster: Cluster, node: Node, groups: set[str]) -> None:
    """Close what has passed; open, or open again, what stands. `groups`: of what stands or stood until now."""
    together = _look_for_what_is_shared(cluster, node, groups)
    standing = {}
    for each in node.health.conditions:
        kind = fault_class(each)
        if kind is not None and not health_judge.condition_evicts(each):
            standing[_name(each)] = (each, kind)
    newest = {i.kind: i for i in cluster.incidents.values() if i.kind[:10] == "condition " and i.nodes == (node.name,)}
    for name, incident in newest.items():
        if _open_now(incident) and name not in standing:
            _close(cluster, incident, "it has passed")
    for name, (each, kind) in standing.items():
        known = newest.get(name)
        if _group(each) in together or (known is not None and _open_now(known)):
            continue
        if known is not None and cluster.now_s - known.marks["passed"] <= AGAIN_S:
            _open_again(cluster, known)
        else:
            _open(cluster, node, name, each, kind)


def _open(cluster: Cluster, node: Node, name: str, seen: ConditionSeen, kind: FaultClass) -> None:
    job = next((job for job in cluster.jobs.values() if seen.run_id and job.run_id == seen.run_id), None)
    incident = incidents.open_apart(cluster, None, name, (node.name,), cluster.now_s - seen.age_s, (_words(seen),))
    if job is not None:
        incident.user, incident.run_id, incident.generation = job.user, job.run_id, job.generation
    foreign = " (its processes are of no job here)" if seen.foreign else ""
    verdict = Verdict(kind, seen.ranks, (node.name,), "advise", f"{node.name}: {_words(seen)}{foreign}")
    incidents.decide(cluster, incident, replace(verdict, advice=_advice(seen)))


def _open_again(cluster: Cluster, incident: Incident) -> None:
    incident.state = "open"
    incident.tell(cluster.now_s, "it is back")
    cluster.incident_changed(incident)


def _close(cluster: Cluster, incident: Incident, line: str) -> None:
    incident.marks["passed"] = cluster.now_s
    incidents.close(cluster, incident, line)


def _advice(seen: ConditionSeen) -> str:
    return _THERMAL_ADVICE if seen.name in THERMAL else _ADVICE.get(seen.action, "")


def _name(seen: ConditionSeen) -> str:
    return f"condition {seen.name} {seen.device}"


def _words(seen: ConditionSeen) -> str:
    where = f" ({seen.device})" if seen.device else ""
    return f"{seen.name}{where}: {seen.message}" if seen.message else f"{seen.name}{where}"


# ---------------------------------------------------------------- what nodes share


def _look_for_what_is_shared(cluster: Cluster, node: Node, groups: set[str]) -> dict[str | None, Incident]:
    """The incidents of what the node and others that show the same share, by group. What is over is closed."""
    found: dict[str | None, Incident] = {}
    for group in sorted(groups):
        known = {
            i.kind: i for i in cluster.incidents.values() if i.kind.startswith(f"shared {group} ") and _open_now(i)
        }
        best: tuple[float, Label, list[Node], int] | None = None
        for label in (*node.hello.labels, _EVERYWHERE):
            own = known.get(_shared_name(group, label))
            peers = [each for each in cluster.nodes.values() if label == _EVERYWHERE or label in each.hello.labels]
            # Those of another label's incident have their explanation.
            others = {name for incident in known.values() if incident is not own for name in incident.nodes}
            shown = [each for each in peers if each.name not in others and _shows(each, group)]
            least = TOGETHER_LEAST + (label == _EVERYWHERE)
            if len(shown) >= max(least, TOGETHER_SHARE * len(peers)):
                share = len(shown) / len(peers)
                if node in shown and (best is None or share > best[0]):
                    best = (share, label, shown, len(peers))
            elif own is not None:
                _close(cluster, own, "it has passed")
        if best is not None:
            _, label, shown, count = best
            found[group] = _tell_shared(cluster, known.get(_shared_name(group, label)), group, label, shown, count)
    return found


def _open_now(incident: Incident) -> bool:
    return incident.state != "closed"


def _group(seen: ConditionSeen) -> str | None:
    """What belongs together where several nodes show it: all that comes of heat, else the very same condition."""
    return None if seen.foreign or fault_class(seen) is None else "thermal" if seen.name in THERMAL else seen.name


def _shows(node: Node, group: str) -> bool:
    return any(_group(each) == group for each in node.health.conditions)


def _shared_name(group: str, label: Label) -> str:
    return f"shared {group} {label[0]}={label[1]}"


def _tell_shared(
    cluster: Cluster, incident: Incident | None, group: str, label: Label, shown: list[Node], count: int
) -> Incident:
    """`shown`: of the `count` nodes that have the label."""
    nodes = tuple(sorted(node.name for node in shown))
    if incident is None:
        incident = incidents.open_apart(cluster, None, _shared_name(group, label), nodes, cluster.now_s)
    if incident.verdict is None or incident.verdict.nodes != nodes:
        seen = [(node, each) for node in shown for each in node.health.conditions if _group(each) == group]
        names = ", ".join(sorted({each.name for _, each in seen}))
        whose = f"all {count} nodes" if label == _EVERYWHERE else f"the {count} nodes of {label[0]} {label[1]}"
        words = f"{len(nodes)} of {whose} show {names}: look at what they share"
        kind = fault_class(seen[0][1]) or "unknown"
        for single in cluster.incidents.values():
            if (
                single.kind in {_name(each) for _, each in seen}
                and set(single.nodes) <= set(nodes)
                and _open_now(single)
            ):
                _close(cluster, single, f"part of incident {incident.id}")
        incident.nodes = nodes
        incident.evidence = [f"{node.name}: {_words(each)}" for node, each in seen][:_EVIDENCE_KEPT]
        incidents.decide(cluster, incident, Verdict(kind, (), nodes, "advise", words, "likely", _advice(seen[0][1])))
    return incident
