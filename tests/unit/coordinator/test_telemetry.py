"""An incident as one trace, a cluster as few series, and each thing said once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import IncidentChanged
from ryzen_coordinator.core.events import Beats, Hello, JobSeen, NodeReport, PaceSeen, RankSeen, Shape
from ryzen_coordinator.core.incidents import stages_s
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Incident
from ryzen_coordinator.telemetry import figures, incidents
from ryzen_coordinator.telemetry.observer import Observer
from ryzen_telemetry import pipeline
from ryzen_telemetry.catalogue import EVENTS, METRICS, SPANS, STAGES
from ryzen_telemetry.records import read_traceparent
from ryzen_telemetry.settings import Plan

OFFSET_S = 1_000_000.0
MARKS = {
    "fault": 10.0, "suspected": 11.0, "verdict": 11.5, "announced": 11.5, "stopped": 11.75, "formed": 12.0,
    "started": 12.5, "stepping": 14.5, "stepped": 14.75,
}  # fmt: skip


def struck(**changes: Any) -> Incident:
    """Rank 3 was stopped, and all is well again."""
    fields: dict[str, Any] = {
        "id": 7, "user": "me", "run_id": "run", "kind": "hang", "generation": 1, "opened_unix_s": OFFSET_S + 11.0,
        "new_generation": 2, "marks": dict(MARKS), "evidence": ["rank 3 is in process state T"], "step": 44,
        "resumed_step": 40, "timeline": ["   1.500 s  verdict: hang, rank 3", "   4.750 s  the first new step is done"],
        "verdict": Verdict("hang", (3,), ("node-1",), "restart", "it is stopped"), "state": "closed",
    }  # fmt: skip
    return Incident(**{**fields, **changes})


def test_stages_are_spans_below_the_root_and_add_up_to_the_recovery() -> None:
    root, *stages = incidents.spans(struck(), OFFSET_S, 20.0)
    assert [each.name for each in stages] == [f"ryzen.incident.{stage}" for stage in STAGES]
    assert {each.parent for each in stages} == {root.trace}
    assert {each.trace.trace_id for each in stages} == {root.trace.trace_id}
    assert (root.begin_unix_s, root.end_unix_s) == (OFFSET_S + 10.0, OFFSET_S + 14.75)
    assert sum(each.end_unix_s - each.begin_unix_s for each in stages) == root.end_unix_s - root.begin_unix_s
    took = {each.name.rpartition(".")[2]: each.end_unix_s - each.begin_unix_s for each in stages}
    assert took == stages_s(struck())


def test_evidence_and_timeline_are_events_and_both_generations_are_linked() -> None:
    root = next(incidents.spans(struck(), OFFSET_S, 20.0))
    assert root.events == (
        (OFFSET_S + 11.0, "evidence: rank 3 is in process state T"),
        (OFFSET_S + 11.5, "verdict: hang, rank 3"),
        (OFFSET_S + 14.75, "the first new step is done"),
    )
    assert root.links == tuple(incidents.trace_of_generation("me", "run", each) for each in (1, 2))
    assert root.attributes["ryzen.steps.lost"] == 4


def test_a_trace_is_the_incidents_own_and_the_same_after_a_restart() -> None:
    assert incidents.trace_of_incident(struck()) == incidents.trace_of_incident(struck(evidence=[], marks={}))
    others = [struck(id=8), struck(run_id="other"), struck(user="you"), struck(opened_unix_s=5.0)]
    ids = {incidents.trace_of_incident(each).trace_id for each in [struck(), *others]}
    assert len(ids) == 5


def test_an_incident_that_was_only_advised_on_has_the_stages_it_had() -> None:
    marks = {name: at_s for name, at_s in MARKS.items() if name in {"fault", "suspected", "verdict"}}
    root, *stages = incidents.spans(struck(marks=marks, new_generation=0), OFFSET_S, 20.0)
    assert [each.name for each in stages] == ["ryzen.incident.detect", "ryzen.incident.blame"]
    assert root.end_unix_s == OFFSET_S + 20.0
    assert len(root.links) == 1


def test_each_word_of_an_incident_is_said_once_and_what_was_there_before_not_again(tmp_path: Path) -> None:
    core = Core(CoreSettings(), [], 20.0, OFFSET_S)
    core.cluster.incidents[6] = struck(id=6)
    telemetry = pipeline.start(Plan({}, folder=tmp_path), "coordinator", {})
    assert telemetry is not None
    observer = Observer(telemetry, core.cluster)
    incident = core.cluster.incidents[7] = struck(state="open", verdict=None)
    for change in ({}, {"verdict": struck().verdict}, {"state": "closed"}):
        for name, value in change.items():
            setattr(incident, name, value)
        observer.effect(IncidentChanged(7))
        observer.effect(IncidentChanged(7))
    observer.effect(IncidentChanged(6))
    counted = {each.name: each.value for each in observer.samples() if each.name.startswith("ryzen.incident")}
    telemetry.close()
    said = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [each["event"] for each in said] == [f"ryzen.incident.{each}" for each in ("opened", "verdict", "closed")]
    assert len({each["trace_id"] for each in said}) == 1
    assert len((tmp_path / "spans.jsonl").read_text().splitlines()) == 1 + len(STAGES)
    assert counted == {"ryzen.incident.open": 0.0, "ryzen.incident.detection": 1.0, "ryzen.incident.verdict": 1.0}
    for each in said:
        plain = {"time", "event", "severity", "body", "trace_id", "span_id"}
        assert set(each) - plain <= set(EVENTS[each["event"]].attributes)


def trained(nodes: int, ranks: int) -> Core:
    """A cluster in mid-training."""
    core = Core(CoreSettings(), [], 0.0, OFFSET_S)
    for seq, handler, generation in ((1, "joining", 0), (2, "running", 1)):
        for number in range(nodes):
            core.step(told(number, nodes, ranks, handler, generation, seq), float(seq))
    return core


def told(number: int, nodes: int, ranks: int, handler: Any, generation: int, seq: int) -> NodeReport:
    own = range(number * ranks, (number + 1) * ranks) if generation else ()
    places = len(own)
    beats = Beats(("forward",), (1,) * places, (50,) * places, (0.01,) * places, (0.1,) * places, (50,) * places)
    pace = PaceSeen(1, tuple(own), 0.2, 4e4, 40, 1e15, 1e15, 4e15, (("forward", 0.1), ("", 0.1)), 0.02, 1e-3, 2e-3,
                    tuple(float(rank) for rank in own), 1e-4)  # fmt: skip
    job = JobSeen(
        "run", "me", handler, generation, generation, 1, ("10.0.0.1", 29500), Shape(nodes, nodes, ranks),
        tuple(RankSeen(rank, place, 100 + place, generation, attached=True) for place, rank in enumerate(own)),
        beats, checkpoint_step=40, torchrun_pid=99, pace=pace if generation else None,
    )  # fmt: skip
    hello = Hello(f"node-{number}", "s", f"boot-{number}", f"host-{number}", "10.0.0.1", number) if seq == 1 else None
    return NodeReport(f"node-{number}", number, seq, hello, (job,))


def test_a_cluster_is_as_many_series_with_a_thousand_ranks_as_with_four() -> None:
    few = list(figures.of_cluster(trained(2, 2).cluster, {("me", "run"): 3.0}))
    many = list(figures.of_cluster(trained(128, 8).cluster, {("me", "run"): 3.0}))
    assert [(each.name, each.attributes) for each in few] == [(each.name, each.attributes) for each in many]
    values = {each.name: each.value for each in many}
    assert values["ryzen.job.world.size"] == 1024
    assert values["ryzen.job.throughput"] == 128 * 4e4
    assert (values["ryzen.job.loss.min"], values["ryzen.job.loss.median"], values["ryzen.job.loss.max"]) == (
        0,
        511.5,
        1023,
    )
    assert values["ryzen.job.mfu"] == 0.25
    assert values["ryzen.job.communication.share"] == pytest.approx(0.1)


def test_every_figure_is_in_the_catalogue_with_its_attributes() -> None:
    for sample in figures.of_cluster(trained(2, 2).cluster, {("me", "run"): 3.0}):
        known = METRICS[sample.name]
        assert "coordinator" in known.by
        assert {name for name, _ in sample.attributes} == set(known.attributes)
    assert {each.name for each in incidents.spans(struck(), OFFSET_S, 20.0)} <= set(SPANS)


def test_agents_are_told_the_trace_of_the_oldest_open_incident_alone(tmp_path: Path) -> None:
    core = trained(2, 2)
    telemetry = pipeline.start(Plan({}, folder=tmp_path), "coordinator", {})
    assert telemetry is not None
    observer = Observer(telemetry, core.cluster)
    job = core.cluster.jobs["me", "run"]
    assert observer.traceparent("me", "run") == observer.traceparent("you", "run") == ""
    core.cluster.incidents |= {7: struck(), 8: struck(id=8)}
    job.open = [7, 8]
    assert read_traceparent(observer.traceparent("me", "run")) == incidents.trace_of_incident(struck())
    telemetry.close()


def test_a_generation_is_a_span_from_its_forming_to_the_next_announcement(tmp_path: Path) -> None:
    core = trained(2, 2)
    telemetry = pipeline.start(Plan({}, folder=tmp_path), "coordinator", {})
    assert telemetry is not None
    observer = Observer(telemetry, core.cluster)
    observer.look()
    job = core.cluster.jobs["me", "run"]
    job.generation, job.announced_s = 2, 9.0
    observer.look()
    observer.look()
    telemetry.close()
    (line,) = [json.loads(each) for each in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert (line["span"], line["ryzen.generation"]) == ("ryzen.generation", 1)
    assert line["trace_id"] == f"{incidents.trace_of_generation('me', 'run', 1).trace_id:032x}"
    assert line["time"] + line["duration_s"] == OFFSET_S + 9.0
