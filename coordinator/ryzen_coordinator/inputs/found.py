"""What a replay finds: decisions in words, and differences told by the names of their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ryzen_coordinator.core import snapshot

DIFFERENCES_MAX = 100
"""Kept in full; after the first one the states have parted anyway."""

_TEXT_MAX = 300
_TITLE_PARTS = {"Journal": 3, "Desire": 2, "IncidentChanged": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not what it was. `offset`: of the call's frame in the file; `number`: of the call in the frame.

    In the journal itself there is no offset, and `number` is the id of the row in `decisions` (None: there is no row).
    """

    file: str
    offset: int | None
    number: int | None
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

    def differs(self, difference: Difference) -> None:
        """Count it; keep it if it is one of the first."""
        self.differing += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since 1970 between which decisions are shown; segments wholly outside are not run."""

    from_s: float = float("-inf")
    until_s: float = float("inf")


def lines(found: Replayed) -> Iterator[str]:
    """A replay for people: the decisions, each difference, one line of summary."""
    for decision in found.decisions:
        yield f"{_time(decision.unix_s)}  {decision.level:7}  {decision.text}"
    for each in found.differences:
        yield f"DIFFERS  {_time(each.unix_s)}  {each.cause}, {_where(each)}"
        yield f"         recorded  {each.recorded}"
        yield f"         now       {each.now}"
    if found.from_unix_s is None or found.until_unix_s is None:
        yield "no call is recorded there"
        return
    span = f"{_time(found.from_unix_s)} to {_time(found.until_unix_s)}"
    what = f"{found.calls} calls, {found.effects} effects in {found.segments} segments of {found.sessions} starts"
    yield f"{what}, {span}: {f'{found.differing} DIFFER' if found.differing else 'identical'}"


def _where(each: Difference) -> str:
    if each.offset is not None:
        return f"{each.file} offset {each.offset} call {each.number}"
    return f"{each.file} decision {each.number}" if each.number is not None else each.file


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def parts(recorded: list[Any] | str, now: list[Any] | str) -> tuple[str, str]:
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
