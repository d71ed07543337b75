"""What a real agent exports to a real receiver, and what it does where there is none."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.integration.telemetry import receivers
from tests.integration.telemetry.receivers import Received, plain, wait_for

from ryzen_agent import status
from ryzen_lab import mock_nvml
from ryzen_telemetry.catalogue import EVENTS, METRICS, RESOURCE, SPANS
from ryzen_telemetry.records import trace_of

from .cluster import Coordinator, Node, Phase, desired, running, with_world

KINDS = {"gauge": "gauge", "sum": "updown", "histogram": "histogram"}
INCIDENT = trace_of("incident", 7)


def exporting(node: Node, endpoint: str, *options: str) -> tuple[str, ...]:
    log = node.folder / "kernel.log"
    log.touch()
    node.environ["LD_LIBRARY_PATH"] = str(node.folder / "driver")
    given = ("--kmsg-path", str(log), "--gpu-interval-s", "0.2", "--otlp-endpoint", endpoint, "--otlp-protocol", "grpc")
    return (*given, "--metrics-interval-s", "1", *options)


def held_against_the_catalogue(received: Received) -> None:
    """All that has come."""
    for metric in received.metrics:
        known = METRICS[metric.name]
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        said = "counter" if kind == "sum" and data.is_monotonic else KINDS[kind]
        assert (said, metric.unit, metric.description) == (known.kind, known.unit, known.description), metric.name
        assert "agent" in known.by
        for point in data.data_points:
            assert set(plain(point.attributes)) <= set(known.attributes), metric.name
    for log in received.logs:
        assert set(plain(log.attributes)) <= set(EVENTS[log.event_name].attributes), log.event_name
    for span in received.spans:
        assert span.name in SPANS
    sdk = {"telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"}
    assert all(set(each) <= {*RESOURCE, *sdk} for each in received.resources)


def test_all_that_leaves_is_in_the_catalogue_and_the_groups_are_there(node: Node, coordinator: Coordinator) -> None:
    mock_nvml.build(node.folder / "driver")
    faults = mock_nvml.Faults(node.folder / "driver")
    faults.driver(count=2)
    faults.gpu(0, clock_event_reasons=0x4)
    with receivers.otlp_grpc() as received:
        node.agent(*exporting(node, received.endpoint))
        node.torchrun(ranks=2)
        running(coordinator)
        with (node.folder / "kernel.log").open("a") as log:
            now_us = time.monotonic_ns() // 1000
            log.write(f"4,1,{now_us},-;NVRM: Xid (PCI:{mock_nvml.Faults.pci(0)}): 79, GPU has fallen off the bus.\n")
        wait_for(lambda: received.values("ryzen.gpu.xid"), "the Xid's counter")
        wait_for(lambda: received.event("ryzen.gpu.xid"), "the Xid's event")
        wait_for(lambda: len(received.values("ryzen.rank.loss")) == 2, "two losses")
        wait_for(lambda: len(received.values("hw.power")) == 2, "two GPUs")
    held_against_the_catalogue(received)
    names = {metric.name for metric in received.metrics}
    assert {"hw.temperature", "hw.gpu.memory.usage", "hw.errors", "ryzen.gpu.clock.event_reason"} <= names
    assert {"ryzen.rank.state", "ryzen.rank.beat.age", "ryzen.agent.connected", "system.memory.limit"} <= names
    assert {"process.cpu.time", "process.memory.usage", "ryzen.telemetry.export", "ryzen.telemetry.lost"} <= names
    assert [value for value, _ in received.values("ryzen.rank.loss")] == [0.5, 0.5]
    states = {
        labels["ryzen.rank"]: labels["ryzen.rank.state"]
        for value, labels in received.values("ryzen.rank.state")
        if value
    }
    assert states == {0: "running", 1: "running"}


def test_what_an_agent_does_for_an_incident_is_part_of_its_trace(node: Node, coordinator: Coordinator) -> None:
    with receivers.otlp_grpc() as received:
        node.agent(*exporting(node, received.endpoint, "--telemetry-folder", str(node.folder / "told")))
        node.torchrun(ranks=2)
        first = running(coordinator)
        coordinator.desire(desired(first, 1, evidence=True, traceparent=INCIDENT.parent))
        coordinator.wait_job(lambda job: all(each.HasField("probe") for each in job.ranks))
        os.kill(first.ranks[1].pid, signal.SIGKILL)
        failed = coordinator.wait_job(lambda job: any(each.exit_code for each in job.ranks))
        coordinator.desire(desired(failed, 2, go=True, traceparent=INCIDENT.parent))
        joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
        world = with_world(joining, 2)
        world.traceparent = INCIDENT.parent
        coordinator.desire(world)
        coordinator.wait_job(lambda job: len([each for each in job.ranks if each.generation == 2]) == 2)
        wanted = {"ryzen.agent.evidence", "ryzen.agent.stop", "ryzen.agent.start"}
        wait_for(lambda: {each.name for each in received.spans} >= wanted, "its spans")
        wait_for(lambda: len(received.event("ryzen.rank.exit")) == 2, "the ends of both ranks")
    for span in received.spans:
        assert span.trace_id.hex() == f"{INCIDENT.trace_id:032x}"
        assert span.parent_span_id.hex() == f"{INCIDENT.span_id:016x}"
        assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert len({each.span_id for each in received.spans}) == len(received.spans)
    for log in received.event("ryzen.rank.exit"):
        assert log.trace_id.hex() == f"{INCIDENT.trace_id:032x}"
    held_against_the_catalogue(received)
    lines = [json.loads(line) for line in (node.folder / "told" / "faults.jsonl").read_text().splitlines()]
    exits = [each for each in lines if each["event"] == "ryzen.rank.exit"]
    assert [each["trace_id"] for each in exits] == [f"{INCIDENT.trace_id:032x}"] * 2


def test_an_end_without_an_incident_leaves_without_a_trace(node: Node, coordinator: Coordinator) -> None:
    with receivers.otlp_grpc() as received:
        node.agent(*exporting(node, received.endpoint))
        node.torchrun(ranks=1)
        running(coordinator, ranks=1)
        node.tell("all", "0")
        (log,) = wait_for(lambda: received.event("ryzen.rank.exit"), "the end")
    assert not any(log.trace_id)
    assert plain(log.attributes)["ryzen.reason"] == "done"


@pytest.mark.parametrize("back_end", [receivers.hanging, receivers.refusing], ids=["hanging", "refusing"])
def test_with_a_dead_back_end_the_agent_works_says_so_and_ends_soon(
    back_end: type, node: Node, coordinator: Coordinator
) -> None:
    with back_end() as endpoint:
        agent = node.agent(*exporting(node, endpoint))
        node.torchrun(ranks=2)
        job = running(coordinator)
        os.kill(job.ranks[1].pid, signal.SIGKILL)
        failed = coordinator.wait_job(lambda job: any(each.exit_code for each in job.ranks))
        coordinator.desire(desired(failed, 2, go=True))
        coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
        wait_for(
            lambda: [each for each in status.ask(node.run_dir).degraded if each.startswith("telemetry: ")],
            "a word in the status", 30.0,
        )  # fmt: skip
        agent.terminate()
        began_s = time.monotonic()
        assert agent.wait(timeout=30) == 0
        assert time.monotonic() - began_s < 8.0, "the exporters' own time limit is 10 s"


def test_a_wrong_word_is_one_line_and_exit_code_two(node: Node) -> None:
    agent = node.agent("--otlp-endpoint", "collector:4317")
    assert agent.wait(timeout=30) == 2
    assert node.errors(agent) == (
        "ryzen-agent: option --otlp-endpoint or environment OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' is not "
        "allowed: http://HOST:PORT or https://HOST:PORT is expected\n"
    )


def test_with_nothing_configured_the_agent_imports_nothing_of_opentelemetry(
    node: Node, coordinator: Coordinator
) -> None:
    agent = node.agent()
    coordinator.wait(lambda update: update.HasField("hello"))
    assert "opentelemetry" not in Path(f"/proc/{agent.pid}/maps").read_text()
    threads = {(each / "comm").read_text().strip() for each in Path(f"/proc/{agent.pid}/task").iterdir()}
    assert not {each for each in threads if each.startswith(("Otel", "telemetry"))}
