"""Does the journal hold what was decided? The `decisions` of the SQLite file against those of the log of inputs.

Both are in the order of deciding, and a decision is in the log before it is in the journal. So each row must be found
in the log behind the one before. Not every decision has a row (a coordinator may be killed between the two: the end of
its session is forgiven), and not every row a decision that is logged (the oldest segments are removed, a log may have
been switched off: rows of such times are passed over).
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.effects import Effect, Journal
from ryzen_coordinator.inputs.found import Difference, Replayed, parts

_CLOCK_S = 5.0
"""The wall clock of a row may have been set since the log's began to run, and commits wait for the disk."""


class Decided(NamedTuple):
    """One record as it was logged. `text`: its body as the journal writes it."""

    session: str
    unix_s: float
    kind: str
    key: str
    text: str | None


class Row(NamedTuple):
    """One row of `decisions`."""

    id: int
    unix_s: float
    kind: str
    key: str
    text: str | None


@dataclass(slots=True)
class Log:
    """What the segments have decided. `unlogged`: (from, until) of the times that no segment covers."""

    decided: list[Decided] = field(default_factory=list)
    unlogged: list[tuple[float, float]] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)  # sessions that ended in order

    def add(self, session: str, unix_s: float, effects: list[Effect]) -> None:
        """Take in the effects of one call, as they were recorded."""
        for effect in effects:
            if isinstance(effect, Journal):
                text = json.dumps(effect.body, separators=(",", ":")) if effect.body is not None else None
                self.decided.append(Decided(session, unix_s, effect.kind, effect.key, text))


def compare(journal: Path, log: Log, found: Replayed) -> None:
    """Put each difference, or why nothing could be compared, into `found`."""
    try:
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5)) as connection:
            rows = map(Row._make, connection.execute("select id, unix_s, kind, key, body from decisions order by id"))
            newest = _compare_rows(journal, rows, log, found)
            records = connection.execute("select kind, key, body from records").fetchall()
    except sqlite3.Error as error:
        why = "a coordinator is at work on it" if "locked" in str(error) else str(error)
        found.warnings.append(f"{journal}: its decisions are not compared with those of the log: {why}")
        return
    _compare_records(journal, newest, {(kind, key): body for kind, key, body in records}, found)


def _compare_rows(journal: Path, rows: Iterator[Row], log: Log, found: Replayed) -> dict[tuple[str, str], Row]:
    """The newest row of each thing."""
    places: dict[tuple[str, str, str | None], list[int]] = {}
    names: dict[tuple[str, str], list[int]] = {}
    for index, each in enumerate(log.decided):
        places.setdefault((each.kind, each.key, each.text), []).append(index)
        names.setdefault((each.kind, each.key), []).append(index)
    at, first = 0, True
    newest: dict[tuple[str, str], Row] = {}
    for row in rows:
        newest[(row.kind, row.key)] = row
        place = _next(places.get((row.kind, row.key, row.text)), at)
        if place is not None and log.decided[place].unix_s <= row.unix_s + _CLOCK_S:
            if not first or row.id == 1:  # else the oldest rows have been removed
                _missing(journal, log, at, place, found)
            at = place + 1
        elif not any(begin <= row.unix_s <= end for begin, end in log.unlogged):
            meant = _next(names.get((row.kind, row.key)), at)
            _row_differs(journal, row, log.decided[meant] if meant is not None else None, found)
            at = meant + 1 if meant is not None else at
        first = False
    _missing(journal, log, at, len(log.decided), found)
    return newest


def _next(places: list[int] | None, at: int) -> int | None:
    index = bisect_left(places, at) if places else 0
    return places[index] if places and index < len(places) else None


def _missing(journal: Path, log: Log, begin: int, end: int, found: Replayed) -> None:
    """Decisions between two rows that the journal does not hold."""
    goes_on = log.decided[end].session if end < len(log.decided) else None
    killed = 0
    for each in log.decided[begin:end]:
        if each.session != goes_on and each.session not in log.stopped:
            killed += 1
            continue
        title = f"decision on {each.kind} {each.key}"
        found.differs(Difference(str(journal), None, None, each.unix_s, title, "nothing", _short(each.text)))
    if killed:
        found.warnings.append(f"{journal}: {killed} decisions were not committed before their coordinator was killed")


def _row_differs(journal: Path, row: Row, meant: Decided | None, found: Replayed) -> None:
    journal_says, log_says = _texts(row.kind, row.key, row.text, meant.text if meant is not None else None)
    title = f"decision on {row.kind} {row.key}"
    found.differs(Difference(str(journal), None, row.id, row.unix_s, title, journal_says, log_says))


def _compare_records(
    journal: Path, newest: dict[tuple[str, str], Row], records: dict[tuple[str, str], str], found: Replayed
) -> None:
    """What a coordinator would come back with is the newest decision on each thing."""
    for name, row in newest.items():
        record = records.get(name)
        if record != row.text:
            title = f"record {row.kind} {row.key}"
            texts = _texts(row.kind, row.key, record, row.text)
            found.differs(Difference(str(journal), None, row.id, row.unix_s, title, *texts))


def _texts(kind: str, key: str, one: str | None, other: str | None) -> tuple[str, str]:
    """The first field in which two bodies differ."""
    try:
        return parts(*([_record(kind, key, text)] for text in (one, other)))
    except ValueError:
        return _short(one), _short(other)


def _record(kind: str, key: str, text: str | None) -> Any:
    return ["Journal", kind, key, snapshot.encode(json.loads(text)) if text is not None else None]


def _short(text: str | None) -> str:
    return "nothing" if text is None else text[:300]
