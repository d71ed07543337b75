"""Lines -> findings, at a cost that a flood of other lines cannot raise: one search of bytes for most.

The only state is the three-line form of "fallen off the bus", of which dmesg and the journal make three messages.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ryzen_agent.health.kernel_log.finding import Finding
from ryzen_agent.health.kernel_log.patterns import FAMILIES, gpu, xid
from ryzen_agent.health.kernel_log.records import Record, parse

MESSAGE_CHARS_READ = 4096
"""Of a message that patterns see; the kernel's own are below 1024 bytes."""

_PROBE_LINES = 3

_HINT = re.compile(b"|".join(sorted({re.escape(hint) for family in FAMILIES for hint in family.hints})))

may_matter = _HINT.search
"""Whether a raw line can hold a finding at all: truthy where it may."""


class Seen(NamedTuple):
    """A record, with what it says: a finding, a GPU's (PCI address, UUID), or neither."""

    record: Record
    finding: Finding | None = None
    gpu: tuple[str, str] | None = None


def find(message: str) -> Finding | None:
    """What one whole message says, in the words of the first family that knows it."""
    message = message[:MESSAGE_CHARS_READ]
    for family in FAMILIES:
        finding = family.find(message)
        if finding is not None:
            return finding
    return None


class Finder:
    """One log, read in order."""

    def __init__(self) -> None:
        self._probed: str | None = None
        self._lines_left = 0

    def look(self, line: bytes, now_unix_s: float) -> Seen | None:
        """One line for which `may_matter`, or any. None where it is no record."""
        record = parse(line, now_unix_s)
        if record is None:
            return None
        return Seen(record, self._finding(record.message), gpu.identity(record.message))

    def _finding(self, message: str) -> Finding | None:
        finding = find(message)
        if finding is not None:
            self._probed = None
            return finding
        if self._probed is not None and self._lines_left > 0:
            self._lines_left -= 1
            if xid.ends_probe(message):
                fallen, self._probed = xid.fallen(self._probed), None
                return fallen
        if (pci := xid.begins_probe(message)) is not None:
            self._probed, self._lines_left = pci, _PROBE_LINES
        return None
