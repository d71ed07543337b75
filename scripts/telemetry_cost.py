"""What exporting costs: `python scripts/telemetry_cost.py [--seconds 60] [--json]`.

Agent: a real one beside eight beating ranks and eight GPUs of the mock driver, once without telemetry and once
exporting metrics every 15 s, spans and log records over OTLP/gRPC to a sink that takes everything; CPU time and memory
of its process over the window. Coordinator: the state of 2,048 nodes of 8 ranks, looked at every 5 s, made into samples
and exported every 15 s; CPU time of all threads that take part, the sink apart in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from time import process_time, time_ns

import grpc

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import Beats, Hello, JobSeen, NodeReport, PaceSeen, RankSeen, Shape
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.telemetry.observer import Observer
from ryzen_lab.bench import footprint
from ryzen_telemetry import pipeline, resource
from ryzen_telemetry.pipeline import LOOK_S
from ryzen_telemetry.settings import TelemetrySettings, plan

NODES, RANKS, REPEATS, EXPORT_EVERY_S = 2048, 8, 9, 15.0
SERVICES = tuple(
    f"opentelemetry.proto.collector.{signal}.v1.{name}Service"
    for signal, name in (("metrics", "Metrics"), ("trace", "Trace"), ("logs", "Logs"))
)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        serve_sink()
        return
    with sink() as endpoint:
        found = {**agent(endpoint, options.seconds), **coordinator(endpoint)}
    found["load"], found["cpus"] = os.getloadavg()[0], float(os.cpu_count() or 0)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, figure in found.items():
        sys.stdout.write(f"{name:52} {figure:8.2f}\n")


def agent(endpoint: str, seconds: float) -> dict[str, float]:
    """Without and with."""
    footprint.WINDOW_S = seconds
    without = asyncio.run(footprint.measure())
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    exporting = asyncio.run(footprint.measure())
    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    return {
        f"{words}, {what}": figures[key]
        for words, figures in (("agent without", without), ("agent exporting", exporting))
        for what, key in (("percent of a core", "cpu_percent"), ("MB RSS", "rss_mb"))
    }


def coordinator(endpoint: str) -> dict[str, float]:
    """One snapshot and one export of a cluster in mid-training, medians in ms of CPU."""
    settings = TelemetrySettings(otlp_endpoint=endpoint, otlp_protocol="grpc", metrics_interval_s=3600.0)
    telemetry = pipeline.start(plan(settings, {}), "coordinator", resource.attributes("coordinator"))
    assert telemetry is not None  # noqa: S101 - an endpoint is given
    observer = Observer(telemetry, cluster().cluster)
    observer.look()  # the first one pushes
    telemetry.export_now()
    look_ms = statistics.median(timed_ms(observer.look) for _ in range(REPEATS))
    snapshot_ms = statistics.median(timed_ms(lambda: telemetry.observe(observer.samples())) for _ in range(REPEATS))
    export_ms = statistics.median(timed_ms(telemetry.export_now) for _ in range(REPEATS))
    series = sum(1 for _ in observer.samples())
    telemetry.close()
    return {
        "coordinator, ms of a look": look_ms,
        "coordinator, ms of a snapshot": snapshot_ms,
        "coordinator, ms of an export": export_ms,
        "coordinator, series": float(series),
        "coordinator, percent of a core": (look_ms / LOOK_S / 10 + (snapshot_ms + export_ms) / EXPORT_EVERY_S / 10),
    }


def cluster() -> Core:
    """2,048 nodes that train."""
    core = Core(CoreSettings(), [], 0.0, time_ns() / 1e9)
    for number in range(NODES):
        core.step(report(number, "joining", 0, 1), 1.0)
    for number in range(NODES):
        core.step(report(number, "running", 1, 2), 2.0 + number * 1e-6)
    return core


def report(number: int, handler: str, generation: int, seq: int) -> NodeReport:
    """What a node says before and after the first world is formed."""
    ranks = range(number * RANKS, (number + 1) * RANKS) if generation else ()
    places = len(ranks)
    beats = Beats(("forward",), (1,) * places, (50,) * places, (0.01,) * places, (0.1,) * places, (50,) * places)
    pace = PaceSeen(1, tuple(ranks), 0.2, 4e4, 40, 1e15, 1e15, 4e15, (("forward", 0.1), ("", 0.1)), 0.02, 1e-3, 2e-3,
                    (2.0,) * places, 1e-4)  # fmt: skip
    job = JobSeen(
        "run", "me", handler, generation, generation, 1, ("10.0.0.1", 29500), Shape(NODES, NODES, RANKS),  # type: ignore[arg-type]
        tuple(RankSeen(each, place, 100 + place, generation, attached=True) for place, each in enumerate(ranks)),
        beats, checkpoint_step=40, torchrun_pid=99, pace=pace if generation else None,
    )  # fmt: skip
    hello = Hello(f"node-{number}", "s", f"boot-{number}", f"host-{number}", "10.0.0.1", number) if seq == 1 else None
    return NodeReport(f"node-{number}", number, seq, hello, (job,))


def timed_ms(call: object) -> float:
    """CPU time of the whole process."""
    begin_s = process_time()
    call()  # type: ignore[operator]
    return (process_time() - begin_s) * 1000


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A process that takes every export."""
    with subprocess.Popen([sys.executable, __file__, "--sink"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def serve_sink() -> None:
    """Answers with an empty message, which is what success looks like."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    take = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    for service in SERVICES:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": take}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
