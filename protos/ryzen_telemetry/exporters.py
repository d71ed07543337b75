"""The SDK's exporters, each wrapped so that what becomes of an export is counted. Imported only where one is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ryzen_telemetry.counts import Counts, Reasons
from ryzen_telemetry.settings import Otlp


class CountedMetrics(MetricExporter):
    """A failed export costs resolution alone: the values are cumulative, the next export has them."""

    def __init__(self, inner: MetricExporter, counts: Counts, reasons: Reasons) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self._inner, self._counts, self._reasons = inner, counts, reasons

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        result = self._inner.export(metrics_data, timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            self._counts.taken("metrics")
        else:
            self._counts.failed("metrics", self._reasons.take())
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._inner.shutdown(timeout_millis, **kwargs)


class Queue:
    """How many records are between the one that emits and the back end. Beyond `most` the SDK drops the oldest, and
    says so only in its log. Each number is written by one thread alone: the emitter's, the exporter's."""

    def __init__(self, signal: str, most: int, counts: Counts) -> None:
        self._signal, self._most, self._counts = signal, most, counts
        self._put = self._handed = self._settled = 0
        self._closed = False

    def put(self) -> None:
        """A record is emitted."""
        if self._put - self._handed >= self._most:
            self._counts.lost(self._signal, 1)
        else:
            self._put += 1

    def handed(self, items: int) -> None:
        """An export begins."""
        self._handed += items

    def settled(self, items: int, reason: str | None) -> None:
        """It has ended. `reason`: of its failure, None where it was taken."""
        self._settled += items
        if self._closed:
            return
        if reason is None:
            self._counts.taken(self._signal)
        else:
            self._counts.failed(self._signal, reason, items)

    def close(self) -> None:
        """What has not been delivered is lost."""
        self._closed = True
        if left := self._put - self._settled:
            self._counts.lost(self._signal, left)


class CountedSpans(SpanExporter):
    def __init__(self, inner: SpanExporter, queue: Queue, reasons: Reasons) -> None:
        self._inner, self._queue, self._reasons = inner, queue, reasons

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._queue.handed(len(spans))
        result = self._inner.export(spans)
        self._queue.settled(len(spans), None if result is SpanExportResult.SUCCESS else self._reasons.take())
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class CountedLogs(LogRecordExporter):
    def __init__(self, inner: LogRecordExporter, queue: Queue, reasons: Reasons) -> None:
        self._inner, self._queue, self._reasons = inner, queue, reasons

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self._queue.handed(len(batch))
        result = self._inner.export(batch)
        self._queue.settled(len(batch), None if result is LogRecordExportResult.SUCCESS else self._reasons.take())
        return result

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def metric_exporter(way: Otlp) -> MetricExporter:
    """Everything that is not given here is read from the OTEL_* variables by the exporter itself."""
    if way.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(endpoint=way.endpoint, timeout=way.timeout_s, compression=_grpc(way))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

    return Http(endpoint=way.endpoint, timeout=way.timeout_s, compression=_http(way))


def span_exporter(way: Otlp) -> SpanExporter:
    if way.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=way.endpoint, timeout=way.timeout_s, compression=_grpc(way))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=way.endpoint, timeout=way.timeout_s, compression=_http(way))


def log_exporter(way: Otlp) -> LogRecordExporter:
    if way.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        return OTLPLogExporter(endpoint=way.endpoint, timeout=way.timeout_s, compression=_grpc(way))
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http

    return Http(endpoint=way.endpoint, timeout=way.timeout_s, compression=_http(way))


def _grpc(way: Otlp) -> Any:
    from grpc import Compression

    return Compression.Gzip if way.compression == "gzip" else Compression.NoCompression


def _http(way: Otlp) -> Any:
    from opentelemetry.exporter.otlp.proto.http import Compression

    return Compression(way.compression)
