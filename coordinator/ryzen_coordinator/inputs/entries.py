"""One call of the core as bytes, and back.

    kind (1 byte) | now_s (8) | length of the effects (4) | what the kind needs | effects

A tick needs nothing: 13 bytes, 20 times a second. A node's update is kept as the message that came over the wire, with
the stream and the wall clock it came at, so that its conversion is done again, too. Other events are JSON of the core's
codec, as are effects; a call that raised has the error's text in their place.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.effects import Effect
from ryzen_coordinator.core.events import Event
from ryzen_protos.v1 import node_pb2 as pb

End: TypeAlias = Literal["continued", "stopped"]

_HEAD = struct.Struct("<cdI")
_UPDATE = struct.Struct("<BQqI")
_LENGTH = struct.Struct("<I")
_TICK, _UPDATED, _EVENT, _END = b"T", b"U", b"E", b"Z"


class Update(NamedTuple):
    """What a node said: over which stream, and our wall clock when it came."""

    node: str
    stream: int
    message: pb.NodeUpdate
    arrival_unix_ns: int


Cause: TypeAlias = Update | Event | None
"""Of a call of the core; None is a tick."""


class Call(NamedTuple):
    """One call of the core and what came of it: its effects, or the text of what it raised."""

    now_s: float
    cause: Cause
    effects: Sequence[Effect] | str


class Recorded(NamedTuple):
    """A call as it was written. `effects`: the codec's JSON values, or the text of what it raised."""

    now_s: float
    cause: Cause
    effects: list[Any] | str


def raised(error: Exception) -> str:
    """How a call that raised is kept."""
    return f"{type(error).__name__}: {error}"


def write(call: Call) -> bytes:
    """Raises SnapshotError for what the core's codec does not know."""
    effects = _effects(call.effects)
    cause = call.cause
    if cause is None:
        return _HEAD.pack(_TICK, call.now_s, len(effects)) + effects
    if isinstance(cause, Update):
        raw, name = cause.message.SerializeToString(), cause.node.encode()
        head = _HEAD.pack(_UPDATED, call.now_s, len(effects))
        return head + _UPDATE.pack(len(name), cause.stream, cause.arrival_unix_ns, len(raw)) + name + raw + effects
    event = _json(snapshot.encode(cause))
    return _HEAD.pack(_EVENT, call.now_s, len(effects)) + _LENGTH.pack(len(event)) + event + effects


def write_end(now_s: float, end: End) -> bytes:
    """The last entry of a segment that another one continues, or of a coordinator that stops."""
    text = end.encode()
    return _HEAD.pack(_END, now_s, len(text)) + text


def read(chunk: bytes) -> Iterator[Recorded | End]:
    """The entries of a chunk. Raises ValueError for anything that `write` does not write."""
    at = 0
    while at < len(chunk):
        try:
            entry, at = _read_one(chunk, at)
        except (struct.error, DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        yield entry


def comparable(effects: Sequence[Effect] | str) -> list[Any] | str:
    """Effects in the form in which those of two runs can be compared: nothing is shared between them."""
    return effects if isinstance(effects, str) else [snapshot.encode(each, share=False) for each in effects]


def _effects(effects: Sequence[Effect] | str) -> bytes:
    if not effects:
        return b""
    return _json(effects if isinstance(effects, str) else snapshot.encode(list(effects)))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _read_one(chunk: bytes, at: int) -> tuple[Recorded | End, int]:
    kind, now_s, length = _HEAD.unpack_from(chunk, at)
    at += _HEAD.size
    cause: Cause = None
    if kind == _UPDATED:
        name_length, stream, arrival, raw_length = _UPDATE.unpack_from(chunk, at)
        at += _UPDATE.size
        name, at = _cut(chunk, at, name_length)
        raw, at = _cut(chunk, at, raw_length)
        cause = Update(name.decode(), stream, pb.NodeUpdate.FromString(raw), arrival)
    elif kind == _EVENT:
        (event_length,) = _LENGTH.unpack_from(chunk, at)
        event, at = _cut(chunk, at + _LENGTH.size, event_length)
        cause = snapshot.decode(json.loads(event))
    elif kind not in {_TICK, _END}:
        raise ValueError(f"an entry of kind {kind!r}")
    rest, at = _cut(chunk, at, length)
    if kind == _END:
        return ("continued" if rest == b"continued" else "stopped"), at
    return Recorded(now_s, cause, json.loads(rest) if rest else []), at


def _cut(chunk: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(chunk):
        raise ValueError("an entry is longer than its frame")
    return chunk[at:end], end
