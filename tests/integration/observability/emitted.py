"""A run as our own pipeline emits it: every metric of the catalogue, of coordinator and agent, for some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ryzen_telemetry.catalogue import METRICS, Metric, Service
from ryzen_telemetry.pipeline import Telemetry
from ryzen_telemetry.records import Sample, Value
from ryzen_telemetry.settings import Otlp, Plan

JOB = "run-7"
SECONDS = 4

WORDS: dict[str, tuple[str, ...]] = {
    "ryzen.job": (JOB,),
    "ryzen.user": ("me",),
    "ryzen.rank": ("0", "1"),
    "ryzen.time.state": ("productive", "checkpoint", "lost_steps", "detection", "recovery", "waiting", "idle"),
    "ryzen.job.phase": ("running", "stalled"),
    "ryzen.node.phase": ("healthy", "quarantined"),
    "ryzen.fault.class": ("hw",),
    "ryzen.action": ("restart",),
}
"""Values of attributes; any other attribute has its own name as its value."""


@contextmanager
def emitters(otlp: str | None = None) -> Iterator[list[Telemetry]]:
    """A coordinator's and an agent's pipeline: to VictoriaMetrics at `otlp`, and to be scraped."""
    ways = {"metrics": Otlp(f"{otlp}/v1/metrics", "http/protobuf", 5.0)} if otlp is not None else {}
    plan = Plan(ways, ("127.0.0.1", 0), metrics_interval_s=1.0)
    services: tuple[Service, ...] = ("coordinator", "agent")
    begun: list[Telemetry] = []
    try:
        for service in services:
            who = {"service.name": f"ryzen-{service}", "service.instance.id": service}
            begun.append(Telemetry(plan, service, who))
        yield begun
    finally:
        for each in begun:
            each.close()


def run(telemetries: list[Telemetry]) -> None:
    """Some seconds of a run, with a recovery in the middle."""
    services: tuple[Service, ...] = ("coordinator", "agent")
    for second in range(SECONDS):
        for telemetry, service in zip(telemetries, services, strict=True):
            metrics = [metric for metric in METRICS.values() if service in metric.by]
            telemetry.observe([each for metric in metrics for each in samples(metric, second)])
            for metric in metrics:
                if metric.kind == "histogram":
                    telemetry.record(metric.name, 0.5, dict(attributes(metric)[0]))
        time.sleep(1.2)


def samples(metric: Metric, second: int) -> list[Sample]:
    """Levels that stay, counters that grow, a generation that changes, the first incident after the first seconds."""
    if metric.kind == "histogram" or (metric.name == "ryzen.incident.verdict" and second < SECONDS // 2):
        return []
    value = float(second + 1)
    if metric.name == "ryzen.job.generation":
        value = 1.0 + (second >= SECONDS // 2)
    return [Sample(metric.name, value, each) for each in attributes(metric)]


def attributes(metric: Metric) -> list[tuple[tuple[str, Value], ...]]:
    found: list[tuple[tuple[str, Value], ...]] = [()]
    for name in metric.attributes:
        found = [(*each, (name, word)) for each in found for word in WORDS.get(name, (name,))]
    return found
