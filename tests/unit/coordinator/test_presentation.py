"""What people and tools are shown."""

from __future__ import annotations

import io
import json

from rich.console import Console

from ryzen_coordinator import render
from ryzen_coordinator.plain import plain
from ryzen_protos.v1 import operator_pb2 as pb

INCIDENT = pb.Incident(
    id=7,
    run_id="run-1",
    state="closed",
    generation=1,
    new_generation=2,
    verdict=pb.Verdict(fault_class="hang", ranks=[3], nodes=["node-1"], action="restart", reason="state T"),
    stages_s={"detect": 0.9, "stop": 0.2},
    timeline=["   0.000 s  rank 3 stopped"],
    evidence=["rank 3 in process state T"],
    step=40,
    resumed_step=31,
)


def shown(renderable: object) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_json_has_figures_as_numbers_and_absent_ones_as_null() -> None:
    message = plain(pb.JobStatus(run_id="r", step=2**40))
    assert message["step"] == 2**40
    assert message["checkpoint_step"] is None
    assert message["restarts"] == 0
    assert message["world"] == []


def test_json_of_an_incident_has_all_of_it() -> None:
    message = json.loads(json.dumps(plain(INCIDENT)))
    assert message["verdict"]["ranks"] == [3]
    assert message["stages_s"] == {"detect": 0.9, "stop": 0.2}
    assert message["resumed_step"] == 31


def test_an_incident_without_a_verdict_is_null_in_json() -> None:
    assert plain(pb.Incident(id=1))["verdict"] is None


def test_a_person_reads_who_where_what_was_done_and_how_long_it_took() -> None:
    text = shown(render.incident(INCIDENT))
    for words in ("rank 3 on node-1", "restart", "state T", "0.900 s", "struck at step 40, resumed at 31"):
        assert words in text


def test_the_list_of_incidents_has_who_and_why_whole_on_a_narrow_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render.incidents([INCIDENT, INCIDENT]))
    lines = console.export_text().splitlines()
    assert sum("hang: rank 3 on node-1 → restart" in line for line in lines) == 2
    assert sum(INCIDENT.verdict.reason in line for line in lines) == 2


def test_a_status_names_jobs_nodes_and_notes() -> None:
    status = pb.ClusterStatus(
        version="1",
        uptime_s=3700,
        jobs=[pb.JobStatus(run_id="run-1", phase="running", world=["a"], min_nodes=1, max_nodes=2, note="a note")],
        nodes=[pb.NodeStatus(node="a", phase="suspect", reason="silent")],
    )
    text = shown(render.status(status))
    for words in ("up 1 h 01 min", "run-1", "running", "a (1 of 1:2)", "a note", "suspect", "silent"):
        assert words in text


def test_nothing_there_is_said_so() -> None:
    assert "no job" in shown(render.jobs([]))
    assert "no node" in shown(render.nodes([]))
    assert "no incident" in shown(render.incidents([]))
