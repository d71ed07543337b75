"""`ryzen-coordinator replay`: the recorded calls once more, through a fresh core, and what comes of them compared.

Each segment is run from its own beginning, so that the oldest ones can be missing. Where a segment goes on from the one
before, the state that it begins with must also be the one that the replay has arrived at: a difference that has not
led to another decision yet shows there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Effect, Say
from ryzen_coordinator.inputs import entries, reader
from ryzen_coordinator.inputs.entries import Recorded, Update
from ryzen_coordinator.inputs.frames import DamageError
from ryzen_coordinator.inputs.reader import Segment
from ryzen_coordinator.server import convert

DIFFERENCES_MAX = 100
"""Kept in full; after the first one the states have parted anyway."""

_TEXT_MAX = 300
_TITLE_PARTS = {"Journal": 3, "Desire": 2, "IncidentChanged": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One call that gave something else. `offset`: of its frame in the file; `number`: of the call in the frame."""

    file: str
    offset: int
    number: int
    unix_s: float
    cause: str
    recorded: str
    now: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the core said at a time, in words."""

    unix_s: float
    level: str
    text: str
    fields: dict[str, str]


@dataclass(slots=True)
class Replayed:
    """What a replay found."""

    segments: int = 0
    sessions: int = 0
    calls: int = 0
    effects: int = 0
    from_unix_s: float | None = None
    until_unix_s: float | None = None
    decisions: list[Decision] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    differing: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        return not self.differing


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since 1970 between which decisions are shown; segments wholly outside are not run."""

    from_s: float = float("-inf")
    until_s: float = float("inf")


def replay(journal: Path, window: Window | None = None) -> Replayed:
    """Run everything that is recorded beside `journal` (or in one segment). Raises ReplayError."""
    return _Replay(window or Window()).run(reader.find(journal))


class _Replay:
    def __init__(self, window: Window) -> None:
        self._window = window
        self._found = Replayed()
        self._core: Core | None = None  # where the segment before has arrived
        self._before: Segment | None = None
        self._empty: Path | None = None  # the segment before, if not even its header is there
        self._session = ""

    def run(self, paths: Sequence[Path]) -> Replayed:
        for path, following in zip(paths, [*paths[1:], None], strict=True):
            segment = reader.read(path)
            if segment is None:
                self._warn_torn(path, 0)
                self._before, self._core, self._empty = None, None, path
                continue
            if segment.header["unix_s"] > self._window.until_s:
                break
            self._check_order(segment)
            if self._before_window(following):
                self._core = None
                self._check_end(segment)
            else:
                self._segment(segment)
            self._before, self._empty = segment, None
        return self._found

    def _before_window(self, following: Path | None) -> bool:
        if following is None or self._window.from_s == float("-inf"):
            return False
        after = reader.read(following)
        return after is not None and after.header["unix_s"] < self._window.from_s

    def _check_order(self, segment: Segment) -> None:
        """A segment that goes on must go on from a whole one. Raises DamageError."""
        before = self._before
        if not segment.continues:
            return
        if self._empty is not None:
            raise DamageError(f"{self._empty}: damaged at offset 0: its header is not whole")
        if before is None:  # older ones have been removed
            return
        if (before.session, before.index + 1) != (segment.session, segment.index):
            raise DamageError(f"{segment.path}: goes on from a segment that is missing")
        if before.ended != "continued":
            end = before.torn_at if before.torn_at is not None else before.path.stat().st_size
            raise DamageError(f"{before.path}: damaged at offset {end}: it ends there, but {segment.path.name} goes on")

    def _check_end(self, segment: Segment) -> None:
        for _ in segment.calls():
            pass
        if segment.torn_at is not None:
            self._warn_torn(segment.path, segment.torn_at)

    def _warn_torn(self, path: Path, offset: int) -> None:
        self._found.warnings.append(f"{path}: cut at offset {offset}: the rest is not whole (killed, or at work)")

    def _segment(self, segment: Segment) -> None:
        found = self._found
        core = segment.core()
        if segment.continues and self._core is not None:
            self._compare_states(segment, self._core, core)
        if segment.session != self._session:
            self._session = segment.session
            found.sessions += 1
        found.segments += 1
        for offset, number, call in segment.calls():
            unix_s = call.now_s + core.cluster.unix_offset_s
            if unix_s > self._window.until_s:
                return  # whatever follows is later still
            effects = _run(core, call)
            self._note(unix_s, effects)
            recorded, now = _plain(call.effects), entries.comparable(effects)
            if recorded != now:
                cause = _cause(call)
                self._differs(Difference(str(segment.path), offset, number, unix_s, cause, *_parts(recorded, now)))
        if segment.torn_at is not None:
            self._warn_torn(segment.path, segment.torn_at)
        self._core = core

    def _compare_states(self, segment: Segment, arrived: Core, begins: Core) -> None:
        if snapshot.encode(vars(begins)) == snapshot.encode(vars(arrived)):
            return
        # What was shared may differ where what is meant does not.
        one, other = (snapshot.encode(vars(core), share=False) for core in (begins, arrived))
        if one != other:
            unix_s = begins.cluster.now_s + begins.cluster.unix_offset_s
            what = "the state that it begins with"
            self._differs(Difference(str(segment.path), 0, 0, unix_s, what, *_parts([one], [other])))

    def _note(self, unix_s: float, effects: Sequence[Effect] | str) -> None:
        found = self._found
        found.calls += 1
        found.effects += 0 if isinstance(effects, str) else len(effects)
        found.from_unix_s = found.from_unix_s if found.from_unix_s is not None else unix_s
        found.until_unix_s = unix_s
        if isinstance(effects, str) or unix_s < self._window.from_s:
            return
        for effect in effects:
            if isinstance(effect, Say):
                found.decisions.append(Decision(unix_s, effect.level, effect.text, dict(effect.fields)))

    def _differs(self, difference: Difference) -> None:
        self._found.differing += 1
        if len(self._found.differences) < DIFFERENCES_MAX:
            self._found.differences.append(difference)


def lines(found: Replayed) -> Iterator[str]:
    """A replay for people: the decisions, each difference, one line of summary."""
    for decision in found.decisions:
        yield f"{_time(decision.unix_s)}  {decision.level:7}  {decision.text}"
    for each in found.differences:
        yield f"DIFFERS  {_time(each.unix_s)}  {each.cause}, {each.file} offset {each.offset} call {each.number}"
        yield f"         recorded  {each.recorded}"
        yield f"         now       {each.now}"
    if found.from_unix_s is None or found.until_unix_s is None:
        yield "no call is recorded there"
        return
    span = f"{_time(found.from_unix_s)} to {_time(found.until_unix_s)}"
    what = f"{found.calls} calls, {found.effects} effects in {found.segments} segments of {found.sessions} starts"
    yield f"{what}, {span}: {f'{found.differing} calls DIFFER' if found.differing else 'identical'}"


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _run(core: Core, call: Recorded) -> list[Effect] | str:
    try:
        cause = call.cause
        if cause is None:
            return core.tick(call.now_s)
        if isinstance(cause, Update):
            cause = convert.report(*cause)
        return core.step(cause, call.now_s)
    except Exception as error:  # noqa: BLE001 - whatever it is, the recorded call must have raised the same
        return entries.raised(error)


def _plain(effects: list[Any] | str) -> list[Any] | str:
    """Recorded effects with nothing shared, to be compared."""
    if isinstance(effects, str) or not effects:
        return effects
    return entries.comparable(snapshot.decode(effects))


def _cause(call: Recorded) -> str:
    cause = call.cause
    if cause is None:
        return "tick"
    if isinstance(cause, Update):
        return f"update {cause.message.seq} of {cause.node}"
    return f"{type(cause).__name__} {cause.node}"


def _first(one: Any, other: Any, path: str = "") -> tuple[str, Any, Any]:
    """Where two values of the codec differ first: a path in words, and the two things there."""
    alike = isinstance(one, list) and isinstance(other, list) and one[:1] == other[:1]
    if not alike or (len(one) != len(other) and one[0] not in {"l", "t"}):
        return path, one, other
    tag = one[0]
    longest = max(len(one), len(other))
    one, other = ([*each, *[None] * (longest - len(each))] for each in (one, other))
    start, stride = (2, 2) if tag == "d" else (1, 1)
    names = snapshot.schema().get(tag, []) if isinstance(tag, str) else []
    for index in range(start, len(one), stride):
        if one[index] != other[index]:
            name = one[index - 1] if tag == "d" else names[index - 1] if names else index - 1
            return _first(one[index], other[index], f"{path}.{name}" if path else str(name))
    return path, one, other  # the keys themselves differ


def _parts(recorded: list[Any] | str, now: list[Any] | str) -> tuple[str, str]:
    """The first effect that differs, and in what."""
    if isinstance(recorded, str) or isinstance(now, str):
        return _text(recorded), _text(now)
    for index in range(max(len(recorded), len(now))):
        mine, others = (each[index] if index < len(each) else None for each in (recorded, now))
        if mine != others:
            path, one, other = _first(mine, others)
            where = " ".join(filter(None, [_title(mine) or _title(others), path]))
            return f"{where}: {_text(one)}", f"{where}: {_text(other)}"
    return "", ""


def _title(effect: Any) -> str:
    """ "Journal job me/lab", "Desire node-3", "Say"."""
    if not isinstance(effect, list) or effect[0] not in snapshot.schema():
        return ""
    return " ".join(map(str, effect[: _TITLE_PARTS.get(effect[0], 1)]))


def _text(value: Any) -> str:
    """A value of the codec on one short line."""
    if value is None or value == []:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}..."
