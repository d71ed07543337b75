"""Back ends for tests: one that takes OTLP over gRPC and keeps it, and some that do anything else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass
class Received:
    """All that has come, newest last."""

    metrics: list[Any] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    endpoint: str = ""
    delay_s: float = 0.0

    def values(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """The points of a metric in the newest export that has it."""
        for metric in reversed(self.metrics):
            if metric.name == name:
                kind = metric.WhichOneof("data")
                points = getattr(metric, kind).data_points
                return [
                    (each.as_double or float(each.as_int) if kind != "histogram" else each.sum, plain(each.attributes))
                    for each in points
                ]
        return []

    def event(self, name: str) -> list[Any]:
        return [each for each in self.logs if each.event_name == name]

    def span(self, name: str) -> list[Any]:
        return [each for each in self.spans if each.name == name]


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        time.sleep(self.received.delay_s)
        for resource in request.resource_metrics:
            self.received.resources.append(plain(resource.resource.attributes))
            for scope in resource.scope_metrics:
                self.received.metrics.extend(scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        time.sleep(self.received.delay_s)
        for resource in request.resource_spans:
            self.received.resources.append(plain(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.received.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, received: Received) -> None:
        self.received = received

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        time.sleep(self.received.delay_s)
        for resource in request.resource_logs:
            self.received.resources.append(plain(resource.resource.attributes))
            for scope in resource.scope_logs:
                self.received.logs.extend(scope.log_records)
        return logs_service_pb2.ExportLogsServiceResponse()


@contextlib.contextmanager
def otlp_grpc(port: int = 0, delay_s: float = 0.0) -> Iterator[Received]:
    """A receiver on `port` (0: any) that takes `delay_s` for each export."""
    received = Received(delay_s=delay_s)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(received), server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(received), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(received), server)
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None)


@contextlib.contextmanager
def otlp_http() -> Iterator[Received]:
    """The same over HTTP."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                _Metrics(received).Export(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body), None)
            elif self.path == "/v1/traces":
                _Traces(received).Export(trace_service_pb2.ExportTraceServiceRequest.FromString(body), None)
            elif self.path == "/v1/logs":
                _Logs(received).Export(logs_service_pb2.ExportLogsServiceRequest.FromString(body), None)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """Accepts connections and never says a word."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for each in taken:
                each.close()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


def wait_for(condition: Callable[[], Any], what: str, within_s: float = 20.0) -> Any:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")
