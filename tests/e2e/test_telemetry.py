"""A fault as a team sees it in its own back end: one trace, the metrics around it, the GPU-hours that it cost.

The figures are held against what the lab measured from outside the product. They may differ by what is sampled:
the coordinator hears of a first step by a report, metrics leave once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.telemetry.receivers import Received, otlp_grpc, plain
from tests.servers.stores import VictoriaMetrics

from ryzen_coordinator.client import Client
from ryzen_coordinator.errors import RemoteError
from ryzen_coordinator.plain import plain as values
from ryzen_coordinator.settings import ClientSettings
from ryzen_lab.cluster import listening_address
from ryzen_telemetry.catalogue import METRICS, STAGES, prometheus_name

from .trials import Trial

RANKS = 4
STEPS = 160
SAMPLING_S = 2.0
"""A report is up to a second old, and so is a metric."""


def test_a_frozen_rank_is_seen_whole_through_the_back_end(
    trial: Trial, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victoria = VictoriaMetrics(short_path)
    try:
        with otlp_grpc() as received:
            for name, value in {
                "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{victoria.otlp}/v1/metrics",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
                "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            }.items():
                monkeypatch.setenv(name, value)
            with asked_meanwhile(short_path) as answers:
                result = trial("--fault", "stop", steps=STEPS)
            victoria.flush()
            assert result["exit_code"] == 0
            assert result["verdict"]["class"] == "hang"
            the_trace_is_whole(received, result)
            the_logs_are_of_the_trace(received)
            the_metrics_tell_the_same(victoria, result)
            the_ledger_tells_the_same(answers[-1], result)
    finally:
        victoria.stop()


def the_trace_is_whole(received: Received, result: dict[str, Any]) -> None:
    """One trace, with a span for each stage below its root, from coordinator and agents, linked to both generations."""
    (root,) = received.span("ryzen.incident")
    of_it = [span for span in received.spans if span.trace_id == root.trace_id]
    seconds = {span.name.rpartition(".")[2]: duration_s(span) for span in of_it if span.parent_span_id == root.span_id}
    assert set(STAGES) <= set(seconds)
    assert {"ryzen.agent.stop", "ryzen.agent.start", "ryzen.trainer.restore"} <= {span.name for span in of_it}
    generations = {
        span.trace_id: plain(span.attributes)["ryzen.generation"] for span in received.span("ryzen.generation")
    }
    assert sorted(generations[link.trace_id] for link in root.links) == [1, 2]
    said = [event.name for event in root.events]
    assert any("is in process state T" in words for words in said)
    about = plain(root.attributes)
    assert (about["ryzen.fault.class"], about["ryzen.ranks"]) == ("hang", str(result["fault"]["rank"]))
    assert duration_s(root) == pytest.approx(result["recovered_s"], abs=SAMPLING_S)
    stages = {span.name: duration_s(span) for span in of_it if span.name.startswith("ryzen.incident.")}
    assert stages["ryzen.incident.detect"] == pytest.approx(result["stages_s"]["detect"], abs=SAMPLING_S)


def the_logs_are_of_the_trace(received: Received) -> None:
    (root,) = received.span("ryzen.incident")
    for name in ("ryzen.incident.opened", "ryzen.incident.verdict", "ryzen.incident.closed"):
        (record,) = received.event(name)
        assert record.trace_id == root.trace_id


def the_metrics_tell_the_same(victoria: VictoriaMetrics, result: dict[str, Any]) -> None:
    def over_time(name: str, *matchers: str) -> list[float]:
        series = prometheus_name(METRICS[name])
        labels = ", ".join([f'__name__=~"{series}(_ratio)?"', *matchers])
        now_s = time.time()
        found = victoria.query_range(f"{{{labels}}}", now_s - 600, now_s, 0.5)
        return [float(value) for each in found for _, value in each["values"]]

    assert {1.0, 2.0} == set(over_time("ryzen.job.generation"))
    assert over_time("ryzen.incident.verdict", 'ryzen_fault_class="hang"')[-1] == 1.0
    assert max(over_time("ryzen.job.step")) >= STEPS - 20
    for name in ("ryzen.job.throughput", "ryzen.job.mfu", "ryzen.job.loss.median", "ryzen.rank.gradient.norm"):
        assert any(value > 0 for value in over_time(name)), name
    (recovery,) = [
        each for _, each in victoria.query("max_over_time(ryzen_incident_recovery_duration_seconds_sum[10m])")
    ]
    assert recovery == pytest.approx(result["recovered_s"], abs=SAMPLING_S)
    detection_gpu_s = over_time("ryzen.job.gpu_time", 'ryzen_time_state="detection"')[-1]
    assert detection_gpu_s == pytest.approx(RANKS * result["detected_s"], abs=RANKS * SAMPLING_S)


def the_ledger_tells_the_same(answer: dict[str, Any], result: dict[str, Any]) -> None:
    """Rows of job, nodes and incident; of each the sum is what was held, and the incident's parts are its stages."""
    (job,) = answer["jobs"]
    spent = job["time"]["gpu_s"]
    assert sum(spent.values()) == pytest.approx(RANKS * job["time"]["wall_s"], abs=RANKS * SAMPLING_S)
    for state in spent:
        assert sum(node["time"]["gpu_s"][state] for node in job["nodes"]) == pytest.approx(spent[state], abs=0.1)
    (incident,) = job["incidents"]
    cost = incident["time"]["gpu_s"]
    assert cost["detection"] == pytest.approx(RANKS * result["detected_s"], abs=RANKS * SAMPLING_S)
    recovery_s = result["recovered_s"] - result["detected_s"]
    assert cost["recovery"] == pytest.approx(RANKS * recovery_s, abs=RANKS * SAMPLING_S)
    assert 0.0 < job["time"]["ettr"] < 1.0


def duration_s(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


@contextmanager
def asked_meanwhile(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """What `ledger --json` would say of the lab that works in `folder`, asked again and again until it is over."""
    answers: list[dict[str, Any]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            for log in folder.glob("ryzen-lab-*/**/coordinator.log"):
                try:
                    if address := listening_address(log.read_text()):
                        with Client(ClientSettings(coordinator=address)) as client:
                            answers.append(values(client.ledger()))
                except (OSError, RemoteError):
                    pass  # the lab has just ended: the answer before is the last one

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()
