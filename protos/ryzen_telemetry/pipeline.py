"""The way out: one object that agent and coordinator hand samples, events and spans to.

    main loop                            threads of the SDK and of ours
    ─────────                            ──────────────────────────────
    observe(samples)   swaps a snapshot  ──► read by observable instruments: a push right after it, a Prometheus scrape
    event(record)      into a queue      ──► OTLP log records, JSON-lines files
    span(record)       into a queue      ──► OTLP spans, spans.jsonl
    record(name, x)    into a histogram  ◄── read with the instruments

Nothing here waits for a network or a disk, whatever a back end does: queues are bounded, what has no room is dropped
and counted, and `close` takes a second at most. With an empty plan `start` gives back None, and nothing of
OpenTelemetry has been imported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ryzen_protos.settings import SettingsError
from ryzen_telemetry import dcgm, process
from ryzen_telemetry.catalogue import EVENTS, Service
from ryzen_telemetry.counts import Counts
from ryzen_telemetry.records import Attributes, EventRecord, Sample, SpanRecord, Value, snapshot_of
from ryzen_telemetry.settings import Plan

if TYPE_CHECKING:
    from ryzen_telemetry.files import Files
    from ryzen_telemetry.prometheus import Scraped
    from ryzen_telemetry.providers import Providers

CLOSE_S = 1.0
LOOK_S = 5.0
"""Between two looks, at most: what a scrape may be late. Lower costs CPU for figures that nobody reads."""


class Telemetry:
    """See the module's header. Called by one thread."""

    def __init__(self, plan: Plan, service: Service, resource: Mapping[str, Value]) -> None:
        """Raises SettingsError where a folder cannot be made or a port not be listened on."""
        self.counts = Counts((*plan.otlp, *(["files"] if plan.folder is not None else [])))
        self.interval_s = plan.metrics_interval_s / max(1, math.ceil(plan.metrics_interval_s / LOOK_S))
        self._dcgm = plan.dcgm_names
        self._closed = False
        self._scraped: Scraped | None = None
        self._providers: Providers | None = None
        self._files: Files | None = None
        if plan.folder is not None:
            self._files = _files(plan.folder, plan.file_bytes, resource, self.counts)
        if plan.prometheus is not None:
            from ryzen_telemetry.prometheus import Scraped

            self._scraped = Scraped(plan.prometheus)
        if plan.otlp or self._scraped is not None:
            from ryzen_telemetry.providers import Providers

            readers = [] if self._scraped is None else [self._scraped.reader]
            who = {name: value for name, value in resource.items() if isinstance(value, (str, int))}
            self._providers = Providers(plan, service, who, self.counts, readers)

    @property
    def wants_snapshot(self) -> bool:
        """Whether one is of any use now: it may be scraped at any moment, but is pushed as seldom as is asked for."""
        metrics = None if self._providers is None else self._providers.metrics
        return metrics is not None and (self._scraped is not None or metrics.push_is_due(time.monotonic()))

    @property
    def prometheus_port(self) -> int | None:
        return None if self._scraped is None else self._scraped.port

    def observe(self, samples: Iterable[Sample]) -> None:
        """The newest state of everything; what is not in it is not exported any more."""
        if self._providers is None or self._providers.metrics is None:
            return
        found = [*samples, *process.samples(), *self.counts.samples()]
        if self._dcgm:
            found += dcgm.samples(found)
        self._providers.metrics.take(snapshot_of(found))

    def record(self, name: str, value: float, attributes: Attributes) -> None:
        """Into a histogram."""
        if self._providers is not None and self._providers.metrics is not None:
            self._providers.metrics.record(name, value, attributes)

    def event(self, record: EventRecord) -> None:
        if self._closed:
            return
        if self._providers is not None and self._providers.logs is not None:
            self._providers.logs.add(record)
        if self._files is not None:
            self._files.event(EVENTS[record.name].stream, record)

    def span(self, record: SpanRecord) -> None:
        if self._closed:
            return
        if self._providers is not None and self._providers.spans is not None:
            self._providers.spans.add(record)
        if self._files is not None:
            self._files.span(record)

    def export_now(self) -> None:
        """Blocks until the metrics are delivered or have failed: for measurements and tests."""
        if self._providers is not None and self._providers.metrics is not None:
            self._providers.metrics.export_now()

    def complaints(self) -> list[str]:
        """What is not delivered now, for the status."""
        return self.counts.complaints()

    def close(self) -> None:
        """Deliver what can be delivered within `CLOSE_S`. Blocks that long: call it beside a loop, not within."""
        end_s = time.monotonic() + CLOSE_S
        self._closed = True
        if self._scraped is not None:
            self._scraped.close()
        if self._providers is not None:
            self._providers.close()
        if self._files is not None:
            self._files.close(max(end_s - time.monotonic(), 0.1))


def start(plan: Plan, service: Service, resource: Mapping[str, Value]) -> Telemetry | None:
    """None where nothing is to leave. Raises SettingsError."""
    return Telemetry(plan, service, resource) if plan else None


def _files(folder: Path, file_bytes: int, resource: Mapping[str, Value], counts: Counts) -> Files:
    from ryzen_telemetry.files import Files

    try:
        return Files(folder, file_bytes, resource, counts)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"option --telemetry-folder: {str(folder)!r} is not allowed: {reason}") from None
