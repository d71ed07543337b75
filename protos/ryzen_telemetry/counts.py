"""What became of the exports, counted by ourselves: the SDK's `force_flush` says True when an export has failed.

Exporters run in threads of their own, so every number here is changed under one lock. A back end that fails is said
once, with its reason, and once more when it takes exports again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable

from ryzen_telemetry.records import Sample

log = logging.getLogger(__name__)

_SDK = "opentelemetry"
_REASON_CHARS = 200


class Counts:
    """By signal: metrics, traces, logs, files. Those that are wanted are there from the start, so that a rule may ask
    for their growth."""

    def __init__(self, signals: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        nothing = dict.fromkeys(signals, 0)
        self._taken, self._failed, self._lost = Counter(nothing), Counter(nothing), Counter(nothing)
        self._failing: dict[str, str] = {}

    def taken(self, signal: str) -> None:
        """The back end has accepted an export."""
        with self._lock:
            self._taken[signal] += 1
            recovered = self._failing.pop(signal, None)
        if recovered is not None:
            log.info("telemetry: %s are taken again", signal)

    def failed(self, signal: str, reason: str, items: int = 0) -> None:
        """An export was refused or not answered; `items` that went with it are not sent again."""
        with self._lock:
            self._failed[signal] += 1
            self._lost[signal] += items
            first = signal not in self._failing
            self._failing[signal] = reason
        if first:
            log.warning("telemetry: %s cannot be delivered (%s); nothing waits for it", signal, reason or "no answer")

    def lost(self, signal: str, items: int) -> None:
        """There was no room to keep them."""
        with self._lock:
            self._lost[signal] += items

    def all_lost(self) -> int:
        with self._lock:
            return sum(self._lost.values())

    def all_failed(self) -> int:
        with self._lock:
            return sum(self._failed.values())

    def complaints(self) -> list[str]:
        """For the status: what is not delivered now."""
        with self._lock:
            return [
                f"telemetry: {signal} cannot be delivered ({reason or 'no answer'}), "
                f"{self._failed[signal]} exports failed, {self._lost[signal]} items lost"
                for signal, reason in sorted(self._failing.items())
            ]

    def samples(self) -> list[Sample]:
        with self._lock:
            tables = (
                ("ryzen.telemetry.export", dict(self._taken)),
                ("ryzen.telemetry.export.failed", dict(self._failed)),
                ("ryzen.telemetry.lost", dict(self._lost)),
            )
        return [
            Sample(name, float(count), (("ryzen.signal", signal),))
            for name, table in tables
            for signal, count in sorted(table.items())
        ]


class Reasons(logging.Handler):
    """Keeps the SDK's own complaints, which come with every retry, out of the log, and the newest of each thread as the
    reason of the export that has just failed there. The SDK leaves out one that is like the one before, whichever
    exporter that was of: then it is the reason here too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._own = threading.local()
        self._newest = ""

    def emit(self, record: logging.LogRecord) -> None:
        self._own.text = self._newest = " ".join(record.getMessage().split())[:_REASON_CHARS]

    def take(self) -> str:
        """Of this thread's newest failure."""
        text: str = getattr(self._own, "text", "") or self._newest
        self._own.text = ""
        return text

    def install(self) -> None:
        logger = logging.getLogger(_SDK)
        logger.handlers[:] = [self]
        logger.propagate = False
