"""What agent and coordinator hand to the pipeline: plain records, made without a line of OpenTelemetry.

Trace ids are derived, not drawn: whoever knows an incident or a generation knows the id of its trace, also after a
restart. What cannot be derived travels as a W3C `traceparent` in the desired state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Value]
Snapshot: TypeAlias = Mapping[str, list[tuple[float, Attributes]]]
"""Name of a metric -> its series."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Sample(NamedTuple):
    """One measurement. `name`: of the catalogue."""

    name: str
    value: float
    attributes: tuple[tuple[str, Value], ...] = ()


class Trace(NamedTuple):
    """A place in a trace: the ids of W3C's Trace Context."""

    trace_id: int
    span_id: int

    @property
    def parent(self) -> str:
        """As a `traceparent` header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"

    def child(self, name: str) -> Trace:
        """The span of that name below this one: always the same."""
        return Trace(self.trace_id, _number(f"{self.span_id:016x}/{name}", 8))


def trace_of(*words: object) -> Trace:
    """The root of the trace that these words name."""
    text = "/".join(map(str, words))
    return Trace(_number(text, 16), _number(f"root/{text}", 8))


def read_traceparent(text: str) -> Trace | None:
    """None where it is none, or one of zeros."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    trace = Trace(int(found[1], 16), int(found[2], 16))
    return trace if trace.trace_id and trace.span_id else None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened. `name`: of the catalogue; `body`: in words; `severity`: info, warning, error."""

    name: str
    at_unix_s: float
    body: str
    attributes: Attributes = field(default_factory=dict)
    severity: str = "info"
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span that is over. `parent`: None for the root of a trace; `events`: what happened when, in words."""

    name: str
    trace: Trace
    begin_unix_s: float
    end_unix_s: float
    parent: Trace | None = None
    attributes: Attributes = field(default_factory=dict)
    events: tuple[tuple[float, str], ...] = ()
    links: tuple[Trace, ...] = ()
    error: str = ""


def snapshot_of(samples: Iterable[Sample]) -> Snapshot:
    """The samples by metric, as the callbacks of the instruments hand them out."""
    found: dict[str, list[tuple[float, Attributes]]] = {}
    for name, value, attributes in samples:
        found.setdefault(name, []).append((value, dict(attributes)))
    return found


def _number(text: str, length: int) -> int:
    """Never zero, which is no id."""
    return int.from_bytes(blake2b(text.encode(), digest_size=length).digest(), "big") or 1
