"""Watches the core for the pipeline: told of every effect, and looks at the whole every few seconds.

It reads the core's state on the event loop, between two of the core's steps, and changes nothing.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ryzen_coordinator.core.effects import Effect, IncidentChanged
from ryzen_coordinator.core.effects import Journal as Record
from ryzen_coordinator.core.incidents import stages_s
from ryzen_coordinator.core.phases import OVER
from ryzen_coordinator.core.state import Cluster, Incident, Job
from ryzen_coordinator.telemetry import figures, incidents
from ryzen_telemetry.pipeline import Telemetry
from ryzen_telemetry.records import EventRecord, Sample, SpanRecord, Value

JobKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _World:
    """A generation at work. `since_s`: core time."""

    generation: int
    since_s: float
    nodes: int
    ranks: int


@dataclass(slots=True)
class _Told:
    """What has been said of an incident."""

    verdict: tuple[object, ...] | None = None
    closed: bool = False


class Observer:
    """See the module's header."""

    def __init__(self, telemetry: Telemetry, cluster: Cluster) -> None:
        self._telemetry = telemetry
        self._cluster = cluster
        self.reports = 0
        self._counts: Counter[tuple[str, tuple[tuple[str, Value], ...]]] = Counter()
        # What was there before this coordinator has been told by the one before it.
        self._told = {number: _told(each) for number, each in cluster.incidents.items()}
        self._phases = {name: node.phase for name, node in cluster.nodes.items()}
        self._worlds: dict[JobKey, _World] = {}
        self._checkpoints: dict[JobKey, tuple[int, float]] = {}

    @property
    def interval_s(self) -> float:
        return self._telemetry.interval_s

    def effect(self, effect: Effect) -> None:
        """One that the core has had."""
        if isinstance(effect, IncidentChanged):
            if (incident := self._cluster.incidents.get(effect.incident_id)) is not None:
                self._incident(incident)
        elif isinstance(effect, Record) and effect.kind == "node":
            self._node(effect.key)
        elif isinstance(effect, Record) and effect.kind == "job":
            self._all_worlds()

    def look(self) -> None:
        """Every few seconds."""
        self._all_worlds()
        self._told = {number: told for number, told in self._told.items() if number in self._cluster.incidents}
        if self._telemetry.wants_snapshot:
            self._telemetry.observe(self.samples())

    def samples(self) -> Iterator[Sample]:
        yield from figures.of_cluster(self._cluster, self._checkpoint_ages())
        for (name, labels), count in self._counts.items():
            yield Sample(name, float(count), labels)
        yield Sample("ryzen.coordinator.reports", float(self.reports))

    def traceparent(self, user: str, run_id: str) -> str:
        """Of the incident of this job that is open: the oldest, whose recovery the others ride on."""
        job = self._cluster.jobs.get((user, run_id))
        if job is None:
            return ""
        numbers = [*job.open, *([] if job.advice is None else [job.advice])]
        found = [self._cluster.incidents[number] for number in numbers if number in self._cluster.incidents]
        return incidents.trace_of_incident(found[0]).parent if found else ""

    # ------------------------------------------------------------- incidents

    def _incident(self, incident: Incident) -> None:
        told = self._told.get(incident.id)
        if told is None:
            told = self._told[incident.id] = _Told()
            self._count("ryzen.incident.detection", {"ryzen.incident.kind": incident.kind})
            words = incident.evidence[0] if incident.evidence else incident.kind
            self._say("ryzen.incident.opened", incident.opened_unix_s, words, incident, "warning")
        verdict = incident.verdict
        if verdict is not None and _gist(incident) != told.verdict:
            if told.verdict is None:
                labels: dict[str, Value] = {
                    "ryzen.fault.class": verdict.fault_class, "ryzen.action": verdict.action,
                }  # fmt: skip
                self._count("ryzen.incident.verdict", labels)
            told.verdict = _gist(incident)
            at_unix_s = incident.marks.get("verdict", self._cluster.now_s) + self._cluster.unix_offset_s
            severity = "info" if verdict.action == "none" else "error" if verdict.action != "advise" else "warning"
            self._say("ryzen.incident.verdict", at_unix_s, verdict.reason, incident, severity)
        if incident.state == "closed" and not told.closed:
            told.closed = True
            self._closed(incident)

    def _closed(self, incident: Incident) -> None:
        for span in incidents.spans(incident, self._cluster.unix_offset_s, self._cluster.now_s):
            self._telemetry.span(span)
        words = incident.timeline[-1].partition(" s  ")[2] if incident.timeline else "closed"
        self._say("ryzen.incident.closed", self._cluster.now_s + self._cluster.unix_offset_s, words, incident, "info")
        recovered_s = incidents.recovery_s(incident)
        if recovered_s is None or incident.verdict is None:
            return
        fault: dict[str, Value] = {"ryzen.fault.class": incident.verdict.fault_class}
        self._telemetry.record("ryzen.incident.recovery.duration", recovered_s, fault)
        if (lost := incidents.steps_lost(incident)) is not None:
            self._telemetry.record("ryzen.incident.steps.lost", lost, fault)
        for stage, took_s in stages_s(incident).items():
            self._telemetry.record("ryzen.incident.stage.duration", took_s, {**fault, "ryzen.stage": stage})

    def _say(self, name: str, at_unix_s: float, body: str, incident: Incident, severity: str) -> None:
        attributes = incidents.attributes_of(incident)
        if name == "ryzen.incident.closed":
            if (lost := incidents.steps_lost(incident)) is not None:
                attributes["ryzen.steps.lost"] = lost
            if (recovered_s := incidents.recovery_s(incident)) is not None:
                attributes["ryzen.recovery.duration"] = recovered_s
        trace = incidents.trace_of_incident(incident)
        self._telemetry.event(EventRecord(name, at_unix_s, body, attributes, severity, trace))

    # ------------------------------------------------------------- nodes

    def _node(self, name: str) -> None:
        node = self._cluster.nodes.get(name)
        if node is None or node.phase == self._phases.get(name):
            return
        self._phases[name] = node.phase
        if node.phase == "draining":
            self._count("ryzen.eviction", {})
        attributes: dict[str, Value] = {
            "ryzen.node": name, "ryzen.node.phase": node.phase, "ryzen.reason": node.reason,
        }  # fmt: skip
        words = f"node {name} is {node.phase}" + (f": {node.reason}" if node.reason else "")
        severity = "warning" if node.phase in {"suspect", "draining", "quarantined"} else "info"
        self._telemetry.event(EventRecord("ryzen.node.phase", time.time(), words, attributes, severity))

    # ------------------------------------------------------------- generations

    def _all_worlds(self) -> None:
        jobs = self._cluster.jobs
        for key in [each for each in self._worlds if each not in jobs]:
            self._end_world(key, self._cluster.now_s)
        for key, job in jobs.items():
            self._world(key, job)

    def _world(self, key: JobKey, job: Job) -> None:
        known = self._worlds.get(key)
        if known is not None and (job.generation != known.generation or job.phase in OVER):
            self._end_world(key, job.announced_s if job.generation > known.generation else self._cluster.now_s)
            known = None
        if known is None and job.formed and job.world is not None and job.phase not in OVER:
            world = job.world
            self._worlds[key] = _World(world.generation, job.formed_s, len(world.nodes), world.ranks)

    def _end_world(self, key: JobKey, end_s: float) -> None:
        world = self._worlds.pop(key)
        user, run_id = key
        offset_s = self._cluster.unix_offset_s
        attributes: dict[str, Value] = {
            "ryzen.job": run_id, "ryzen.user": user, "ryzen.generation": world.generation,
            "ryzen.job.nodes": world.nodes, "ryzen.job.world.size": world.ranks,
        }  # fmt: skip
        trace = incidents.trace_of_generation(user, run_id, world.generation)
        begin_s = world.since_s + offset_s
        self._telemetry.span(SpanRecord("ryzen.generation", trace, begin_s, end_s + offset_s, None, attributes))

    def _checkpoint_ages(self) -> dict[JobKey, float]:
        now_s = self._cluster.now_s
        for key, job in self._cluster.jobs.items():
            if job.checkpoint_step is not None and self._checkpoints.get(key, (-1, 0.0))[0] != job.checkpoint_step:
                self._checkpoints[key] = (job.checkpoint_step, now_s)
        self._checkpoints = {key: each for key, each in self._checkpoints.items() if key in self._cluster.jobs}
        return {key: max(now_s - at_s, 0.0) for key, (_, at_s) in self._checkpoints.items() if math.isfinite(at_s)}

    def _count(self, name: str, labels: dict[str, Value]) -> None:
        self._counts[name, tuple(labels.items())] += 1


def _gist(incident: Incident) -> tuple[object, ...] | None:
    verdict = incident.verdict
    return None if verdict is None else (verdict.fault_class, verdict.action, verdict.ranks, verdict.nodes)


def _told(incident: Incident) -> _Told:
    return _Told(_gist(incident), incident.state == "closed")
