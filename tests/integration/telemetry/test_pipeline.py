"""The pipeline against receivers that take OTLP, and against some that do not."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.telemetry import receivers
from tests.integration.telemetry.receivers import Received, wait_for

from ryzen_protos.settings import SettingsError
from ryzen_telemetry import pipeline, resource
from ryzen_telemetry.pipeline import Telemetry
from ryzen_telemetry.providers import QUEUE
from ryzen_telemetry.records import EventRecord, Sample, SpanRecord, trace_of
from ryzen_telemetry.settings import Otlp, Plan, Protocol

TRACE = trace_of("incident", 7)
LOSS = Sample("ryzen.rank.loss", 2.5, (("ryzen.job", "run"), ("ryzen.user", "me"), ("ryzen.rank", 3)))
EXIT = EventRecord("ryzen.rank.exit", 1_000.0, "rank 3 has ended", {"ryzen.rank": 3}, "error", TRACE)
STAGE = SpanRecord(
    "ryzen.incident.stop", TRACE.child("stop"), 1_000.0, 1_000.5, TRACE, {"ryzen.stage": "stop"},
    ((1_000.1, "generation 2 is announced"),), (trace_of("generation", 1),),
)  # fmt: skip


def to(endpoint: str, protocol: Protocol = "grpc", timeout_s: float = 10.0, **options: Any) -> Plan:
    suffix = {each: f"/v1/{each}" if protocol != "grpc" else "" for each in ("metrics", "traces", "logs")}
    return Plan(
        {each: Otlp(f"{endpoint}{path}", protocol, timeout_s) for each, path in suffix.items()},  # type: ignore[misc]
        metrics_interval_s=options.pop("metrics_interval_s", 0.1), **options,
    )  # fmt: skip


def started(plan: Plan) -> Telemetry:
    telemetry = pipeline.start(plan, "agent", resource.attributes("agent", "node-1"))
    assert telemetry is not None
    return telemetry


@pytest.mark.parametrize(
    ("receiver", "protocol"), [(receivers.otlp_grpc, "grpc"), (receivers.otlp_http, "http/protobuf")]
)
def test_metrics_spans_and_events_arrive_as_they_were_given(
    receiver: Callable[[], AbstractContextManager[Received]], protocol: Protocol
) -> None:
    with receiver() as received:
        telemetry = started(to(received.endpoint, protocol))
        telemetry.observe([LOSS])
        telemetry.event(EXIT)
        telemetry.span(STAGE)
        wait_for(lambda: received.values("ryzen.rank.loss"), "the loss")
        telemetry.close()
    assert received.values("ryzen.rank.loss") == [(2.5, {"ryzen.job": "run", "ryzen.user": "me", "ryzen.rank": 3})]
    (log,) = received.event("ryzen.rank.exit")
    assert (log.body.string_value, log.severity_text, log.time_unix_nano) == ("rank 3 has ended", "error", 10**12)
    assert log.trace_id.hex() == f"{TRACE.trace_id:032x}"
    assert log.span_id.hex() == f"{TRACE.span_id:016x}"
    (span,) = received.span("ryzen.incident.stop")
    assert span.trace_id == log.trace_id
    assert span.parent_span_id == log.span_id
    assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
    assert [each.name for each in span.events] == ["generation 2 is announced"]
    assert [each.trace_id.hex() for each in span.links] == [f"{trace_of('generation', 1).trace_id:032x}"]
    who = received.resources[0]
    assert (who["service.name"], who["ryzen.node"]) == ("ryzen-agent", "node-1")
    assert telemetry.counts.all_failed() == telemetry.counts.all_lost() == 0


def test_prometheus_scrapes_the_newest_snapshot_alone() -> None:
    telemetry = started(Plan({}, prometheus=("127.0.0.1", 0)))
    telemetry.observe([LOSS, Sample("ryzen.agent.connected", 1.0)])
    telemetry.observe([LOSS])
    with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.prometheus_port}/metrics") as answer:
        text = answer.read().decode()
    telemetry.close()
    assert 'ryzen_rank_loss{ryzen_job="run",ryzen_rank="3",ryzen_user="me"} 2.5' in text
    assert "ryzen_agent_connected" not in text
    assert "process_memory_usage_bytes" in text


def test_a_push_follows_its_look_and_no_snapshot_is_wanted_before_the_next() -> None:
    with receivers.otlp_grpc() as received:
        telemetry = started(to(received.endpoint, metrics_interval_s=3600.0))
        assert telemetry.wants_snapshot
        telemetry.observe([LOSS])
        wait_for(lambda: received.values("ryzen.rank.loss"), "the push")
        assert not telemetry.wants_snapshot
        telemetry.close()


def test_what_may_be_scraped_at_any_moment_is_wanted_at_every_look() -> None:
    telemetry = started(Plan({}, prometheus=("127.0.0.1", 0), metrics_interval_s=3600.0))
    telemetry.observe([LOSS])
    assert telemetry.wants_snapshot
    telemetry.close()


@pytest.mark.parametrize(("push_s", "look_s"), [(0.1, 0.1), (5.0, 5.0), (12.0, 4.0), (15.0, 5.0), (60.0, 5.0)])
def test_looks_are_five_seconds_apart_at_most_and_one_is_when_a_push_is_due(
    push_s: float, look_s: float, tmp_path: Path
) -> None:
    telemetry = started(Plan({}, folder=tmp_path, metrics_interval_s=push_s))
    assert telemetry.interval_s == pytest.approx(look_s)
    telemetry.close()


def test_dcgm_names_come_beside_ours_where_they_are_asked_for() -> None:
    gpu = (("hw.id", "GPU-1"), ("hw.type", "gpu"), ("hw.name", "GPU 0"))
    power = Sample("hw.power", 300.0, gpu)
    info = Sample("ryzen.gpu.info", 1.0, (*gpu, ("hw.model", "H200"), ("ryzen.gpu.pci", "0000:05:00")))
    telemetry = started(Plan({}, prometheus=("127.0.0.1", 0), dcgm_names=True))
    telemetry.observe([power, info])
    with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.prometheus_port}/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("DCGM_FI_DEV_POWER_USAGE{")]
    telemetry.close()
    assert len(lines) == 1
    for label in ('UUID="GPU-1"', 'gpu="0"', 'modelName="H200"', 'pci_bus_id="0000:05:00"'):
        assert label in lines[0]
    assert lines[0].endswith(" 300.0")


def test_events_and_spans_are_lines_of_json_by_stream_with_their_trace(tmp_path: Path) -> None:
    telemetry = started(Plan({}, folder=tmp_path))
    telemetry.event(EXIT)
    telemetry.event(EventRecord("ryzen.rank.performance", 1.0, "rank 3", {"ryzen.loss": float("nan")}))
    telemetry.span(STAGE)
    telemetry.close()
    (fault,) = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    (span,) = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    (pace,) = [json.loads(line) for line in (tmp_path / "performance.jsonl").read_text().splitlines()]
    assert (fault["event"], fault["ryzen.rank"], fault["ryzen.node"]) == ("ryzen.rank.exit", 3, "node-1")
    assert fault["trace_id"] == span["trace_id"] == f"{TRACE.trace_id:032x}"
    assert span["parent_span_id"] == fault["span_id"]
    assert pace["ryzen.loss"] == "nan"


def test_a_full_file_is_set_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    telemetry = started(Plan({}, folder=tmp_path, file_bytes=65536))
    for number in range(1500):
        telemetry.event(EventRecord("ryzen.rank.exit", float(number), "x" * 300))
    telemetry.close()
    files = sorted(each.name for each in tmp_path.glob("faults.jsonl*"))
    assert files == ["faults.jsonl", *(f"faults.jsonl.{n}" for n in range(1, 5))]
    assert all(each.stat().st_size <= 65536 for each in tmp_path.iterdir())
    last = json.loads((tmp_path / "faults.jsonl").read_text().splitlines()[-1])
    assert last["time"] == 1499.0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("back_end", [receivers.hanging, receivers.refusing], ids=["hanging", "refusing"])
def test_a_back_end_that_does_not_answer_is_waited_for_by_nobody_and_counted(
    back_end: Callable[[], AbstractContextManager[str]], protocol: Protocol
) -> None:
    with back_end() as endpoint:
        telemetry = started(to(endpoint, protocol, timeout_s=60.0))
        began_s = time.monotonic()
        telemetry.observe([LOSS])
        for _ in range(3 * QUEUE):
            telemetry.event(EXIT)
            telemetry.span(STAGE)
        telemetry.close()
        assert time.monotonic() - began_s < 30.0
    assert telemetry.counts.all_lost() == 2 * 3 * QUEUE


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_back_end_that_fails_is_said_once_a_signal_with_its_reason(
    protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with receivers.hanging() as endpoint:
        telemetry = started(to(endpoint, protocol, timeout_s=0.2))
        started_s = time.time()
        telemetry.observe([LOSS])
        telemetry.event(EXIT)
        telemetry.span(STAGE)
        wait_for(lambda: len(telemetry.complaints()) == 3, "all three signals to be complained of")
        failed = telemetry.counts.all_failed()
        telemetry.observe([LOSS])
        wait_for(lambda: telemetry.counts.all_failed() > failed, "another failure")
        telemetry.close()
    said = [each.getMessage() for each in caplog.records if each.name.startswith("ryzen_telemetry")]
    said = [each for each in said if "Shutdown in progress" not in each]  # an earlier test's, which gives up only now
    assert len(said) == 3
    for signal, word in (("metrics", "metrics"), ("traces", "(spans|traces)"), ("logs", "logs")):
        begin = rf"telemetry: {signal} cannot be delivered \(Failed to export {word} "
        assert [each for each in said if re.match(begin, each)], said
    # An earlier test's exporter may still be giving up, and pytest hears loggers that do not propagate: what came
    # before this pipeline had them is not its own.
    own = [each for each in caplog.records if each.created >= started_s]
    assert not [each for each in own if each.name.startswith("opentelemetry")]


def test_what_has_been_lost_is_itself_a_metric_once_the_back_end_is_there() -> None:
    with receivers.refusing() as endpoint:
        port = int(endpoint.rpartition(":")[2])
    telemetry = started(to(endpoint, timeout_s=0.2))
    telemetry.event(EXIT)
    wait_for(lambda: telemetry.counts.all_lost() == 1, "the loss")

    def looked_again() -> object:
        telemetry.observe([])
        return received.values("ryzen.telemetry.lost")

    with receivers.otlp_grpc(port) as received:
        wait_for(looked_again, "the metric")
        wait_for(lambda: not [each for each in telemetry.complaints() if "metrics" in each], "no complaint of metrics")
        telemetry.close()
    lost = {labels["ryzen.signal"]: value for value, labels in received.values("ryzen.telemetry.lost")}
    assert lost == {"metrics": 0.0, "traces": 0.0, "logs": 1.0}


def test_a_slow_back_end_gets_everything_in_the_end() -> None:
    with receivers.otlp_grpc(delay_s=0.2) as received:
        telemetry = started(to(received.endpoint))
        for _ in range(1000):
            telemetry.event(EXIT)
        wait_for(lambda: len(received.logs) == 1000, "all of them")
        telemetry.close()
    assert telemetry.counts.all_lost() == 0


def test_a_file_system_that_hangs_holds_nobody(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "faults.jsonl")  # nobody reads: opening it blocks for ever
    telemetry = started(Plan({}, folder=tmp_path))
    began_s = time.monotonic()
    for _ in range(2 * QUEUE):
        telemetry.event(EXIT)
    telemetry.close()
    assert time.monotonic() - began_s < 3.0
    assert telemetry.counts.all_lost() >= QUEUE - 2


def test_what_cannot_be_opened_is_one_line_that_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        SettingsError, match=r"option --telemetry-folder: '.*/file/below' is not allowed: Not a directory"
    ):
        started(Plan({}, folder=tmp_path / "file" / "below"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"--prometheus: cannot listen on 127.0.0.1:{port}: Address already in use"
        ):
            started(Plan({}, prometheus=("127.0.0.1", port)))


def test_a_process_with_a_hanging_back_end_ends_soon() -> None:
    script = """
import sys, time
from ryzen_telemetry import pipeline, resource
from ryzen_telemetry.records import EventRecord
from ryzen_telemetry.settings import TelemetrySettings, plan
telemetry = pipeline.start(plan(TelemetrySettings(otlp_endpoint=sys.argv[1], otlp_protocol=sys.argv[2])), "agent",
                           resource.attributes("agent", "n"))
telemetry.event(EventRecord("ryzen.rank.exit", time.time(), "x"))
telemetry.observe([])
time.sleep(1.5)
print("closing", flush=True)
telemetry.close()
"""
    for protocol in ("grpc", "http/protobuf"):
        with receivers.hanging() as endpoint:
            command = [sys.executable, "-c", script, endpoint, protocol]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                began_s = time.monotonic()
                assert process.wait(timeout=30) == 0
                assert time.monotonic() - began_s < 8.0, "the exporters' own time limit is 10 s"


def test_with_nothing_configured_nothing_of_opentelemetry_is_imported() -> None:
    script = """
import sys
from ryzen_telemetry import pipeline
from ryzen_telemetry.settings import TelemetrySettings, plan
assert pipeline.start(plan(TelemetrySettings(), {}), "agent", {}) is None
print([name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "prometheus_client", "requests")])
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_threads_of_the_pipeline_end_with_it() -> None:
    with receivers.otlp_grpc() as received:
        before = set(threading.enumerate())
        telemetry = started(to(received.endpoint, prometheus=("127.0.0.1", 0)))
        telemetry.event(EXIT)
        telemetry.close()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: set(threading.enumerate()) <= before, "the end of the threads", 3.0)
    ours = {each.name for each in set(threading.enumerate()) - before}
    assert not {each for each in ours if each.startswith(("Otel", "telemetry"))}
