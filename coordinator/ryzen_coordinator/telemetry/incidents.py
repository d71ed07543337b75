"""One incident as one trace: a root from the fault to the first new step, a span for each stage, evidence as events.

Every id is derived from what names the incident, so that a restarted coordinator goes on with the same trace, and the
agents, which are told the root's `traceparent`, hang their spans below it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryzen_coordinator.core.incidents import STAGES, stages_s
from ryzen_coordinator.core.state import Incident
from ryzen_telemetry.records import SpanRecord, Trace, Value, trace_of

EVENTS_MAX = 60
"""Of the evidence, and of the timeline. The SDK drops the oldest beyond 128."""


def trace_of_incident(incident: Incident) -> Trace:
    """A journal that was lost begins again with incident 1: so the time is part of the name."""
    return trace_of("incident", incident.user, incident.run_id, incident.id, round(incident.opened_unix_s * 1000))


def trace_of_generation(user: str, run_id: str, generation: int) -> Trace:
    return trace_of("generation", user, run_id, generation)


def attributes_of(incident: Incident) -> dict[str, Value]:
    found: dict[str, Value] = {"ryzen.incident": incident.id, "ryzen.incident.kind": incident.kind}
    if incident.run_id:
        found |= {
            "ryzen.job": incident.run_id, "ryzen.user": incident.user, "ryzen.generation": incident.generation,
        }  # fmt: skip
    if (verdict := incident.verdict) is not None:
        found |= {
            "ryzen.fault.class": verdict.fault_class,
            "ryzen.action": verdict.action,
            "ryzen.confidence": verdict.confidence,
            "ryzen.ranks": ",".join(map(str, verdict.ranks)),
            "ryzen.nodes": ",".join(verdict.nodes),
        }
    return found


def recovery_s(incident: Incident) -> float | None:
    """From the fault to the first new step; None where no step followed."""
    marks = incident.marks
    return max(marks["stepped"] - marks["fault"], 0.0) if "stepped" in marks else None


def steps_lost(incident: Incident) -> int | None:
    """Steps that are done twice."""
    if incident.step is None or incident.resumed_step is None:
        return None
    return max(incident.step - incident.resumed_step, 0)


def spans(incident: Incident, unix_offset_s: float, now_s: float) -> Iterator[SpanRecord]:
    """Of an incident that is closed. `unix_offset_s`: from the core's clock to the wall clock."""
    root = trace_of_incident(incident)
    marks = {name: at_s + unix_offset_s for name, at_s in incident.marks.items()}
    attributes = attributes_of(incident)
    if (lost := steps_lost(incident)) is not None:
        attributes["ryzen.steps.lost"] = lost
    if (recovered_s := recovery_s(incident)) is not None:
        attributes["ryzen.recovery.duration"] = recovered_s
    generations = [each for each in (incident.generation, incident.new_generation) if each and incident.run_id]
    yield SpanRecord(
        "ryzen.incident",
        root,
        marks["fault"],
        marks.get("stepped", now_s + unix_offset_s),
        None,
        attributes,
        tuple(_events(incident, marks)),
        tuple(trace_of_generation(incident.user, incident.run_id, each) for each in dict.fromkeys(generations)),
        "" if incident.verdict is None else incident.verdict.reason,
    )
    over = stages_s(incident)
    for stage, begin, end in STAGES:
        if stage in over:
            name = f"ryzen.incident.{stage}"
            labels = {**attributes_of(incident), "ryzen.stage": stage}
            yield SpanRecord(name, root.child(stage), marks[begin], max(marks[end], marks[begin]), root, labels)


def _events(incident: Incident, marks: dict[str, float]) -> Iterator[tuple[float, str]]:
    for text in incident.evidence[:EVENTS_MAX]:
        yield marks["suspected"], f"evidence: {text}"
    for line in incident.timeline[:EVENTS_MAX]:
        seconds, _, text = line.partition(" s  ")
        yield marks["fault"] + float(seconds), text
