"""Which lines need not be read again: those that can only give the event of an earlier line.

A flood is one line over and over, or one line with other numbers in it. The first is known by its text, the second by
its template, for which digits (and the letters of hexadecimal ones) count as equal. A template is used only where the
numbers behind the process's name say nothing that tells events apart: Xids without a unit whose action is the table's.
Reading such a line costs about 3 microseconds instead of 20.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from ryzen_agent.health import xid_table
from ryzen_agent.health.kernel_log.finding import Finding

KNOWN_MAX = 1024

_STAMP = re.compile(rb"\d+,\d+,\d+,[^;]*;|\[[ \d.]+\] ")
_XID_HEAD = re.compile(rb"NVRM: Xid \([^)]*\): (?:\d+, )?(?:pid=[^,]*, )?(?:name=[^,]*, )?")
_ALIKE = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_SAID_IN_TEXT = frozenset({74, xid_table.RECOVERY_ACTION, *xid_table.NVLINK5})


class Sameness:
    """Texts and templates of the lines of open bursts, each with its burst's key."""

    def __init__(self) -> None:
        self._known: dict[bytes, Hashable] = {}
        self._text = self._template = b""

    def burst(self, line: bytes) -> Hashable | None:
        """Of the burst that this line can only belong to; None where it has to be read."""
        stamp = _STAMP.match(line)
        self._text = text = line[stamp.end() :] if stamp is not None else line
        head = _XID_HEAD.match(text)
        if head is None:
            self._template = b""
            return self._known.get(text)
        self._template = text[: head.end()] + b"\0" + text[head.end() :].translate(_ALIKE)
        return self._known.get(self._template) or self._known.get(text)

    def learn(self, finding: Finding, key: Hashable) -> None:
        """What the line that `burst` was last asked about has turned out to be."""
        if finding.kind == "nfs" or len(self._known) >= KNOWN_MAX:
            return  # an NFS server's lines also say whether it stands still
        by_number = finding.kind == "xid" and not finding.unit and finding.code not in _SAID_IN_TEXT
        self._known[self._template if by_number and self._template else self._text] = key

    def forget(self) -> None:
        """When a burst has ended."""
        self._known.clear()
