"""What survives a restart of the coordinator, as plain JSON, and back.

Kept is what cannot be observed again: numbers of generations, worlds, who is barred, restarts, learned silences,
incidents. Not kept are observations: they are levels, and every agent sends them whole within a second of its
reconnect. Core time is another one after a restart, so times are kept as seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from ryzen_coordinator.core.blame import Failure, Verdict
from ryzen_coordinator.core.book import Account, Book
from ryzen_coordinator.core.effects import Journal
from ryzen_coordinator.core.events import Hello, JobSeen, Shape
from ryzen_coordinator.core.evidence import RankMoment, StackGroup
from ryzen_coordinator.core.health_record import NO_HEALTH, Burst, NodeHealth
from ryzen_coordinator.core.members import Member, Node
from ryzen_coordinator.core.phases import JOB_PHASES, NODE_PHASES
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.state import Cluster, Incident, Job, Leaver, Taint, World

FORMAT = 2


class DurableError(ValueError):
    """A record of the journal is not one that this version wrote; the text says which."""


def flush(cluster: Cluster) -> list[Journal]:
    """A record for everything that was decided in this step."""
    records = []
    for kind, key in cluster.durable:
        body: dict[str, Any] | None = None
        if kind == "node" and (node := cluster.nodes.get(key)) is not None:
            body = _node_body(node)
        elif kind == "job" and (job := cluster.jobs.get(job_key(key))) is not None:
            body = _job_body(cluster, job)
        elif kind == "incident" and (incident := cluster.incidents.get(int(key))) is not None:
            body = _incident_body(cluster, incident)
        records.append(Journal(kind, key, body))
    cluster.durable.clear()
    return records


def restore(cluster: Cluster, records: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    """Put the records (kind, key, body) into a fresh cluster. Raises DurableError."""
    for kind, key, body in records:
        try:
            if kind == "node":
                cluster.nodes[key] = _node(cluster, key, body)
            elif kind == "job":
                job = _job(cluster, key, body)
                cluster.jobs[job.key] = job
                cluster.last_generation[job.key] = body["last_generation"]
            elif kind == "incident":
                cluster.incidents[int(key)] = _incident(cluster, int(key), body)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DurableError(f"record {kind} {key!r} cannot be read: {error!r}") from error
    cluster.next_incident = max(cluster.incidents, default=0) + 1
    for job in cluster.jobs.values():
        for name in job.members:
            cluster.nodes.setdefault(name, Node(name, Hello(name), heard_s=cluster.now_s))
        job.open = [number for number in job.open if number in cluster.incidents]


def job_key(key: str) -> tuple[str, str]:
    """(user, run id) of a job's key in the journal."""
    user, _, run_id = key.rpartition("/")
    return (user, run_id)


def _node_body(node: Node) -> dict[str, Any]:
    body = {"format": FORMAT, "phase": node.phase, "reason": node.reason, "hello": asdict(node.hello)}
    health = replace(node.health, conditions=())  # those are a level
    if health != NO_HEALTH:
        body["health"] = _health_body(health)
    return body


def _health_body(health: NodeHealth) -> dict[str, Any]:
    body = asdict(health)
    del body["conditions"]
    body["pardoned"] = sorted(health.pardoned)
    return body


def _health(body: dict[str, Any]) -> NodeHealth:
    bursts = tuple(_burst(burst) for burst in body["bursts"])
    pardoned = frozenset((name, device) for name, device in body["pardoned"])
    return NodeHealth(**{**body, "bursts": bursts, "pardoned": pardoned})


def _burst(body: dict[str, Any]) -> Burst:
    return Burst(**{**body, "ranks": tuple(body["ranks"])})


def _node(cluster: Cluster, name: str, body: dict[str, Any]) -> Node:
    _known(NODE_PHASES, body["phase"])
    hello = dict(body["hello"])
    hello["labels"] = tuple((key, value) for key, value in hello["labels"])
    health = _health(body["health"]) if "health" in body else NO_HEALTH
    return Node(name, Hello(**hello), body["phase"], body["reason"], heard_s=cluster.now_s, health=health)


def _job_body(cluster: Cluster, job: Job) -> dict[str, Any]:
    offset = cluster.unix_offset_s
    members = {
        name: {
            "used": member.used,
            "torchrun_pid": member.seen.torchrun_pid,
            "join_id": member.seen.join_id,
            "ranks_per_node": member.seen.shape.ranks_per_node,
        }
        for name, member in job.members.items()
    }
    return {
        "format": FORMAT,
        "shape": asdict(job.shape),
        "phase": job.phase,
        "born_unix_s": job.born_s + offset,
        "generation": job.generation,
        "last_generation": cluster.last_generation.get(job.key, job.generation),
        "world": _world_body(job.world) if job.world is not None else None,
        "slots": job.slots,
        "members": members,
        "gaps": {name: [value, job.gaps.seen_s[name] + offset] for name, value in job.gaps.longest_s.items()},
        "longest_silence_s": job.gaps.ever_s,
        "advice": job.advice,
        "floor_step": job.floor_step,
        "diverged_step": job.diverged_step,
        "unnamed_rollback_unix_s": job.unnamed_rollback_unix_s,
        "contradicted": job.contradicted,
        "golden": list(job.self_checks.golden.items()),
        "even_step": job.marks.even_step if job.marks.generation == job.generation else None,
        "taint": asdict(job.taint) if job.taint is not None else None,
        "open": list(job.open),
        "checkpoint_step": job.checkpoint_step,
        "restarts": job.restarts,
        "fruitless": job.fruitless,
        "best_step": job.best_step,
        "best_checkpoint": job.best_checkpoint,
        "sends_progress": job.sends_progress,
        "watched": job.watched,
        "exit_code": job.exit_code,
        "note": job.note,
        "over_unix_s": job.over_s + offset,
        "unended": {name: left.torchrun_pid for name, left in job.unended.items()},
        "ledger": _book_body(cluster, job),
    }


def _job(cluster: Cluster, key: str, body: dict[str, Any]) -> Job:
    _known(JOB_PHASES, body["phase"])
    user, run_id = job_key(key)
    offset = cluster.unix_offset_s
    job = Job(user, run_id, _shape(body["shape"]), born_s=body["born_unix_s"] - offset, phase=body["phase"])
    job.generation = body["generation"]
    job.announced_s = job.formed_s = job.ending_s = cluster.now_s
    job.world = _world(body["world"]) if body["world"] is not None else None
    job.slots = tuple(body["slots"])
    job.go = job.formed
    job.stopped_s = cluster.now_s if job.phase == "rendezvous" else None
    for name in ("checkpoint_step", "restarts", "fruitless", "best_step", "best_checkpoint", "sends_progress"):
        setattr(job, name, body[name])
    job.watched, job.exit_code, job.note = body["watched"], body["exit_code"], body["note"]
    job.over_s = body["over_unix_s"] - offset
    job.open = list(body["open"])
    job.unended = {name: Leaver(pid, stream=0) for name, pid in body["unended"].items()}
    job.gaps.ever_s = body["longest_silence_s"]
    job.advice, job.floor_step = body["advice"], body["floor_step"]
    job.diverged_step = body.get("diverged_step")  # these four are not in records of older versions
    job.unnamed_rollback_unix_s = body.get("unnamed_rollback_unix_s", 0.0)
    node, at_unix_s = body.get("contradicted", ("", 0.0))
    job.contradicted = (node, at_unix_s)
    job.self_checks.golden = {int(key): int(digest) for key, digest in body.get("golden", ())}
    job.taint = Taint(**body["taint"]) if body["taint"] is not None else None
    if "ledger" in body:
        job.book = _book(cluster, job.world, body["ledger"])
    for section, (longest, seen_unix_s) in body["gaps"].items():
        job.gaps.longest_s[section] = longest
        job.gaps.seen_s[section] = seen_unix_s - offset
    for name, member in body["members"].items():
        job.members[name] = _member(cluster, job, name, member)
    if job.world is not None:
        job.table = ProgressTable(job.world.generation, list(job.world.nodes))
        job.table.reserve(job.world.ranks)
        job.marks.begin(job.world.generation, job.world.ranks)
        job.replicas.begin(job.world.generation, job.world.ranks)
        job.self_checks.begin(job.world.generation, job.world.ranks)
        job.marks.restore(body["even_step"] if job.formed else None)
    return job


def _book_body(cluster: Cluster, job: Job) -> dict[str, Any]:
    """The nodes at work are nearly always those of the world, whose names are in the record already: null then."""
    body = asdict(job.book)
    del body["heard"], body["looked_s"]
    body["settled_s"] = job.book.settled_s + cluster.unix_offset_s
    phase, generation, nodes = job.book.situation
    if job.world is not None and nodes == job.world.nodes:
        body["situation"] = (phase, generation, None)
    return body


def _book(cluster: Cluster, world: World | None, body: dict[str, Any]) -> Book:
    accounts = [
        Account(**{**each, "nodes": tuple(each["nodes"]), "worked": [(begin, end) for begin, end in each["worked"]]})
        for each in body["accounts"]
    ]
    phase, generation, nodes = body["situation"]
    return Book(
        **{
            **body,
            "settled_s": body["settled_s"] - cluster.unix_offset_s,
            "accounts": accounts,
            "steps": [(step, at_s) for step, at_s in body["steps"]],
            "situation": (phase, generation, world.nodes if nodes is None and world is not None else tuple(nodes)),
            "beside": tuple(body["beside"]),
            "heard": False,
        }
    )


def _member(cluster: Cluster, job: Job, name: str, body: dict[str, Any]) -> Member:
    """A node not heard of since the restart: its handler is unknown, its silence begins now."""
    seen = JobSeen(
        run_id=job.run_id,
        user=job.user,
        shape=replace(job.shape, ranks_per_node=body["ranks_per_node"]),
        join_id=body["join_id"],
        torchrun_pid=body["torchrun_pid"],
    )
    used = (body["used"][0], body["used"][1]) if body["used"] is not None else None
    return Member(name, seen, cluster.now_s, cluster.now_s, used=used)


def _shape(body: dict[str, Any]) -> Shape:
    options = tuple((key, value) for key, value in body["options"])
    return Shape(body["min_nodes"], body["max_nodes"], body["ranks_per_node"], options)


def _world_body(world: World) -> dict[str, Any]:
    names = ("generation", "nodes", "joins", "store", "uniform", "ranks", "resume_at_most")
    return {name: getattr(world, name) for name in names}


def _world(body: dict[str, Any]) -> World:
    store = (body["store"][0], body["store"][1]) if body["store"] is not None else None
    joins = tuple((pid, join_id) for pid, join_id in body["joins"])
    return World(
        body["generation"],
        tuple(body["nodes"]),
        joins,
        store,
        body["uniform"],
        body["ranks"],
        body["resume_at_most"],
    )


def _incident_body(cluster: Cluster, incident: Incident) -> dict[str, Any]:
    offset = cluster.unix_offset_s
    body = asdict(incident)
    del body["id"]
    body["marks"] = {name: at_s + offset for name, at_s in incident.marks.items()}
    body["failures"] = [
        {**asdict(failure), "ended_s": failure.ended_s + offset} for failure in incident.failures.values()
    ]
    return body


def _incident(cluster: Cluster, number: int, body: dict[str, Any]) -> Incident:
    offset = cluster.unix_offset_s
    failures = [Failure(**{**failure, "ended_s": failure["ended_s"] - offset}) for failure in body["failures"]]
    verdict = body["verdict"]
    if verdict is not None:
        verdict = Verdict(**{**verdict, "ranks": tuple(verdict["ranks"]), "nodes": tuple(verdict["nodes"])})
    return Incident(
        **{
            **body,
            "id": number,
            "nodes": tuple(body["nodes"]),
            "marks": {name: at_s - offset for name, at_s in body["marks"].items()},
            "failures": {failure.rank: failure for failure in failures},
            "verdict": verdict,
            "stacks": [StackGroup(stack["text"], tuple(stack["ranks"])) for stack in body["stacks"]],
            "ranks": [RankMoment(**moment) for moment in body["ranks"]],
            "bursts": [_burst(burst) for burst in body.get("bursts", ())],
        }
    )


def _known(table: dict[str, dict[str, str]], phase: str) -> None:
    if phase not in table:
        raise ValueError(f"unknown phase {phase!r}")
