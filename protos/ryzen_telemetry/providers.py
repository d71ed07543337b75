"""The SDK's side of the pipeline: instruments over the newest snapshot, spans and log records into bounded queues.

Everything the SDK does with a network happens in threads of its own. What is called from a main loop here touches
memory alone: a snapshot is swapped, a span or a record is put into a queue.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider, MetricsTimeoutError
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ryzen_telemetry import exporters
from ryzen_telemetry.catalogue import DCGM, METRICS, Metric, Service
from ryzen_telemetry.counts import Counts, Reasons
from ryzen_telemetry.exporters import CountedLogs, CountedMetrics, CountedSpans, Queue
from ryzen_telemetry.records import Attributes, EventRecord, Snapshot, SpanRecord, Trace
from ryzen_telemetry.settings import Plan

_log = logging.getLogger(__name__)

SCOPE = "ryzen"
BATCH = 512
QUEUE = 2048
"""Records that wait for a slow back end: OpenTelemetry's default. Higher keeps more of an outage, a kilobyte each."""
_EARLY_S = 0.5
"""Looks come by a clock of one second: the one a moment before the interval is over is the right one."""
SHUTDOWN_S = 0.7
"""Of all providers, side by side. Higher delivers more to a slow back end, and delays the end where there is none."""

_LAST_PUSH_S = 0.5
"""Of these, so that something is left to end the exporter in."""

_SEVERITIES = {"info": SeverityNumber.INFO, "warning": SeverityNumber.WARN, "error": SeverityNumber.ERROR}


class Push:
    """Exports metrics in a thread of its own, each time right after the look that they come from.

    The SDK's periodic reader has a clock of its own: what it sends may be a whole interval old, and looks between two
    exports are made for nobody.
    """

    def __init__(self, exporter: MetricExporter, interval_s: float) -> None:
        self.reader = PeriodicExportingMetricReader(exporter, math.inf)
        self._interval_s = interval_s
        self._begun_s = -math.inf
        self._due = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="metrics export", daemon=True)
        self._thread.start()

    def is_due(self, now_s: float) -> bool:
        return now_s - self._begun_s >= self._interval_s - _EARLY_S

    def begin(self, now_s: float) -> None:
        self._begun_s = now_s
        self._due.set()

    def close(self, timeout_s: float) -> None:
        """Export the newest once more, as far as that is done in time."""
        self._closed = True
        self._due.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        last = False
        while not last:
            self._due.wait()
            self._due.clear()
            last = self._closed
            try:
                self.reader.collect(self.reader._export_timeout_millis)
            except MetricsTimeoutError as error:
                _log.warning("%s", error)


class Metrics:
    """One observable instrument for every metric of this service in the catalogue; histograms are recorded into."""

    def __init__(
        self, service: Service, readers: list[MetricReader], push: Push | None, resource: Resource, dcgm_names: bool
    ) -> None:
        """`readers`: beside the one that pushes."""
        self._snapshot: Snapshot = {}
        self._push = push
        dcgm = tuple(DCGM) if dcgm_names and service == "agent" else ()
        # The SDK turns the names of instruments into small letters; those of views stay as they are.
        views = [View(instrument_name=name.lower(), name=name) for name in dcgm]
        all_readers = readers if push is None else [*readers, push.reader]
        self._provider = MeterProvider(all_readers, resource, shutdown_on_exit=False, views=views)
        meter = self._provider.get_meter(SCOPE)
        self._histograms: dict[str, Histogram] = {}
        makers: dict[str, Callable[..., Any]] = {
            "gauge": meter.create_observable_gauge,
            "updown": meter.create_observable_up_down_counter,
            "counter": meter.create_observable_counter,
        }
        for metric in METRICS.values():
            if service not in metric.by:
                continue
            if metric.kind == "histogram":
                self._histograms[metric.name] = _histogram(meter, metric)
            else:
                makers[metric.kind](
                    metric.name, [self._reader_of(metric.name)], unit=metric.unit, description=metric.description
                )
        for name in dcgm:
            meter.create_observable_gauge(name, [self._reader_of(name)])

    def take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        now_s = time.monotonic()
        if self._push is not None and self._push.is_due(now_s):
            self._push.begin(now_s)

    def push_is_due(self, now_s: float) -> bool:
        return self._push is not None and self._push.is_due(now_s)

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        if (histogram := self._histograms.get(name)) is not None:
            histogram.record(value, attributes)

    def export_now(self) -> None:
        self._provider.force_flush()

    def close(self) -> None:
        end_s = time.monotonic() + SHUTDOWN_S
        if self._push is not None:
            self._push.close(_LAST_PUSH_S)
        self._provider.shutdown((end_s - time.monotonic()) * 1000)

    def _reader_of(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in self._snapshot.get(name, ())]

        return read


def _histogram(meter: Any, metric: Metric) -> Histogram:
    made: Histogram = meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )
    return made


class _Ids(IdGenerator):
    """Hands out the ids of the span that is about to be made."""

    def __init__(self) -> None:
        self.next = Trace(1, 1)

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def generate_span_id(self) -> int:
        return self.next.span_id


class Spans:
    """Called by one thread. Every span is kept: incidents are rare, and OTEL_TRACES_SAMPLER is for requests."""

    def __init__(self, plan: Plan, resource: Resource, counts: Counts, reasons: Reasons) -> None:
        most = size("OTEL_BSP_MAX_QUEUE_SIZE")
        self.queue = Queue("traces", most, counts)
        exporter = CountedSpans(exporters.span_exporter(plan.otlp["traces"]), self.queue, reasons)
        self._processor = BatchSpanProcessor(exporter, most, max_export_batch_size=min(BATCH, most))
        self._ids = _Ids()
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer(SCOPE)

    def add(self, record: SpanRecord) -> None:
        self.queue.put()
        self._ids.next = record.trace
        context = trace_api.set_span_in_context(NonRecordingSpan(_context(record.parent)))
        span = self._tracer.start_span(
            record.name,
            context,
            attributes=record.attributes,
            links=[trace_api.Link(_context(each)) for each in record.links],
            start_time=_ns(record.begin_unix_s),
        )
        for at_unix_s, text in record.events:
            span.add_event(text, timestamp=_ns(at_unix_s))
        if record.error:
            span.set_status(trace_api.StatusCode.ERROR, record.error)
        span.end(_ns(max(record.end_unix_s, record.begin_unix_s)))

    def close(self) -> None:
        # The provider's own shutdown waits for half a minute, whatever it is told.
        self._processor._batch_processor.shutdown(int(SHUTDOWN_S * 1000))


class Logs:
    """Events as log records."""

    def __init__(self, plan: Plan, resource: Resource, counts: Counts, reasons: Reasons) -> None:
        most = size("OTEL_BLRP_MAX_QUEUE_SIZE")
        self.queue = Queue("logs", most, counts)
        exporter = CountedLogs(exporters.log_exporter(plan.otlp["logs"]), self.queue, reasons)
        self._processor = BatchLogRecordProcessor(exporter, max_queue_size=most, max_export_batch_size=min(BATCH, most))
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(self._processor)
        self._logger = self._provider.get_logger(SCOPE)

    def add(self, record: EventRecord) -> None:
        self.queue.put()
        self._logger.emit(
            event_name=record.name,
            timestamp=_ns(record.at_unix_s),
            context=trace_api.set_span_in_context(NonRecordingSpan(_context(record.trace))),
            severity_number=_SEVERITIES[record.severity],
            severity_text=record.severity,
            body=record.body,
            attributes=dict(record.attributes),
        )

    def close(self) -> None:
        self._processor._batch_processor.shutdown(int(SHUTDOWN_S * 1000))


class Providers:
    """All that a plan asks of the SDK."""

    def __init__(
        self, plan: Plan, service: Service, resource: Mapping[str, str | int], counts: Counts,
        readers: Iterable[MetricReader] = (),
    ) -> None:  # fmt: skip
        """`readers`: beside the periodic one."""
        reasons = Reasons()
        named = Resource.create(dict(resource))
        self.metrics: Metrics | None = None
        self.spans = Spans(plan, named, counts, reasons) if "traces" in plan.otlp else None
        self.logs = Logs(plan, named, counts, reasons) if "logs" in plan.otlp else None
        push = None
        if "metrics" in plan.otlp:
            exporter = CountedMetrics(exporters.metric_exporter(plan.otlp["metrics"]), counts, reasons)
            push = Push(exporter, plan.metrics_interval_s)
        if (others := list(readers)) or push is not None:
            self.metrics = Metrics(service, others, push, named, plan.dcgm_names)
        reasons.install()

    def close(self) -> None:
        """Side by side, for each may use up its time. What is not delivered then is lost, and counted."""
        closing = [each.close for each in (self.metrics, self.spans, self.logs) if each is not None]
        threads = [threading.Thread(target=each, daemon=True) for each in closing]
        for thread in threads:
            thread.start()
        end_s = time.monotonic() + SHUTDOWN_S
        for thread in threads:
            thread.join(max(end_s - time.monotonic(), 0.0))
        for each in (self.spans, self.logs):
            if each is not None:
                each.queue.close()


def size(variable: str) -> int:
    """A positive number from the environment, else the default."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() and int(text) > 0 else QUEUE


def _context(trace: Trace | None) -> SpanContext:
    if trace is None:
        return trace_api.INVALID_SPAN_CONTEXT
    return SpanContext(trace.trace_id, trace.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _ns(unix_s: float) -> int:
    return int(unix_s * 1e9)
