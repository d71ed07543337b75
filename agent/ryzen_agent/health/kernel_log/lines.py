"""Chunks of a stream -> whole lines, of which no more than a record's length is kept however long they are."""

from __future__ import annotations

from ryzen_agent.health.kernel_log.records import LINE_BYTES


class Lines:
    """`pending`: bytes of the line that has no end yet, dropped ones included."""

    def __init__(self) -> None:
        self._kept = b""
        self.pending = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, without their newlines, the first with what was kept of it."""
        *whole, rest = chunk.split(b"\n")
        if not whole:
            self._keep(rest)
            return []
        if self._kept:
            whole[0] = (self._kept + whole[0])[:LINE_BYTES]
        self._kept, self.pending = b"", 0
        self._keep(rest)
        return whole

    def end(self) -> list[bytes]:
        """What stands after the last newline, at the end of a stream."""
        kept, self._kept, self.pending = self._kept, b"", 0
        return [kept] if kept else []

    def _keep(self, rest: bytes) -> None:
        self._kept = (self._kept + rest[:LINE_BYTES])[:LINE_BYTES]
        self.pending += len(rest)
