"""JSON-lines files: one object a line, one file a kind of event, set aside when it is full.

A thread of its own writes: a disk or a server that hangs holds that thread, and what finds no room in the queue is
counted as lost. The file of a disk that is full is tried again with every line.
"""

from __future__ import annotations

import json
import math
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ryzen_telemetry.counts import Counts
from ryzen_telemetry.records import EventRecord, SpanRecord, Trace, Value

STREAMS = ("faults", "communication", "performance", "spans")
OLDER = 4
QUEUE = 2048

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class _File:
    """One that grows to `file_bytes` and is then set aside as .1, .2 ...; logging's own handler would be waited for at
    the process's end, whatever holds it."""

    def __init__(self, path: Path, file_bytes: int, counts: Counts) -> None:
        self._path, self._file_bytes, self._counts = path, file_bytes, counts
        self._descriptor = -1
        self._bytes = 0

    def write(self, line: str) -> None:
        raw = line.encode() + b"\n"
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, _FLAGS, 0o640)
                self._bytes = os.fstat(self._descriptor).st_size
            if self._bytes and self._bytes + len(raw) > self._file_bytes:
                self._set_aside()
            self._bytes += os.write(self._descriptor, raw)
        except OSError as error:
            self.close()
            self._counts.failed("files", f"{self._path}: {error.strerror or error}", 1)
        else:
            self._counts.taken("files")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _set_aside(self) -> None:
        self.close()
        for number in range(OLDER, 0, -1):
            older = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number}"))
        self._descriptor = os.open(self._path, _FLAGS, 0o640)
        self._bytes = 0


class Files:
    """Called by one thread; nothing blocks it."""

    def __init__(self, folder: Path, file_bytes: int, resource: Mapping[str, Value], counts: Counts) -> None:
        """Makes the folder. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._counts = counts
        self._who = {name: resource[name] for name in ("service.name", "ryzen.node", "host.name") if name in resource}
        self._files = {stream: _File(folder / f"{stream}.jsonl", file_bytes, counts) for stream in STREAMS}
        self._queue: queue.Queue[tuple[str, Mapping[str, Any]] | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._write, name="telemetry-files", daemon=True)
        self._thread.start()

    def event(self, stream: str, record: EventRecord) -> None:
        self._put(
            stream,
            {
                "time": record.at_unix_s,
                "event": record.name,
                "severity": record.severity,
                "body": record.body,
                **_ids(record.trace),
                **self._who,
                **record.attributes,
            },
        )

    def span(self, record: SpanRecord) -> None:
        self._put(
            "spans",
            {
                "time": record.begin_unix_s,
                "span": record.name,
                "duration_s": round(record.end_unix_s - record.begin_unix_s, 6),
                **_ids(record.trace),
                **({"parent_span_id": f"{record.parent.span_id:016x}"} if record.parent is not None else {}),
                **({"links": [each.parent for each in record.links]} if record.links else {}),
                **({"error": record.error} if record.error else {}),
                "events": [{"time": at_unix_s, "name": text} for at_unix_s, text in record.events],
                **self._who,
                **record.attributes,
            },
        )

    def close(self, within_s: float) -> None:
        """Write what is waiting, if that can be done in time."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within_s)

    def _put(self, stream: str, line: Mapping[str, Any]) -> None:
        try:
            self._queue.put_nowait((stream, line))
        except queue.Full:
            self._counts.lost("files", 1)

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            stream, line = item
            plain = {name: _plain(value) for name, value in line.items()}
            self._files[stream].write(json.dumps(plain, separators=(",", ":"), allow_nan=False, default=str))
        for each in self._files.values():
            each.close()


def _ids(trace: Trace | None) -> dict[str, str]:
    return {} if trace is None else {"trace_id": f"{trace.trace_id:032x}", "span_id": f"{trace.span_id:016x}"}


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
