"""Replay compares the journal's own decisions and records with those of the log, and forgives what a kill explains."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ryzen_coordinator.core.effects import Journal as JournalRecord
from ryzen_coordinator.inputs.entries import Call
from ryzen_coordinator.inputs.found import Replayed
from ryzen_coordinator.inputs.writer import segments
from ryzen_coordinator.journal import Journal
from ryzen_coordinator.replay import replay

from .recorded import UNIX_S, Recorder


class Kept(Recorder):
    """A recorder that also writes its decisions into a journal, as the coordinator does."""

    def __init__(self, journal: Path, session: str = "s", **options: Any) -> None:
        super().__init__(journal.with_name(f"{journal.name}.inputs"), session, **options)
        self.journal = Journal(journal)
        self.committed = True
        add = self.log.add

        def kept(call: Call, core: Any) -> bool:
            enough = add(call, core)
            records = [each for each in call.effects if isinstance(each, JournalRecord)]
            if records and self.committed:
                self.journal.write(records, UNIX_S + call.now_s + 0.003)
            return enough

        self.log.add = kept  # type: ignore[method-assign]

    def stop(self) -> None:
        self.log.close(self.now_s)
        self.journal.close()

    def die(self) -> None:
        """As by SIGKILL."""
        self.log.flush()
        self.journal.close()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with its log: two sessions, the first of which was killed."""
    path = tmp_path / "journal.sqlite"
    first = Kept(path, "one")
    first.live()
    first.die()
    second = Kept(path, "two", start_s=99.0)
    for part in (1, 2):
        second.live(3, since_s=100.0 * part)
        second.log.wants_state = part == 1
    second.stop()
    return path


def tampered(journal: Path, statement: str, *values: Any) -> Replayed:
    connection = sqlite3.connect(journal)
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()
    return replay(journal)


def some_row(journal: Path, kind: str, which: int) -> tuple[int, str]:
    connection = sqlite3.connect(journal)
    rows = connection.execute("select id, body from decisions where kind = ? order by id", (kind,)).fetchall()
    connection.close()
    number, body = rows[which]
    return number, body


def test_a_journal_and_its_log_agree(journal: Path) -> None:
    found = replay(journal)
    assert (found.identical, found.warnings, found.differences) == (True, [], [])


def test_a_decision_that_was_changed_in_the_journal_is_named_with_its_row_and_field(journal: Path) -> None:
    number, body = some_row(journal, "job", 1)
    changed = body.replace('"generation":1', '"generation":4')
    assert changed != body
    found = tampered(journal, "update decisions set body = ? where id = ?", changed, number)
    (only,) = found.differences
    assert (only.file, only.number, only.cause) == (str(journal), number, "decision on job me/job")
    assert only.recorded.startswith("Journal job me/job body.")
    assert "generation" in only.recorded
    assert (only.recorded[-3:], only.now[-3:]) == (": 4", ": 1")


def test_a_record_that_is_not_the_newest_decision_is_named(journal: Path) -> None:
    found = tampered(
        journal, "update records set body = replace(body, 'dust', 'rust') where kind = 'node' and key = 'b'"
    )
    (only,) = found.differences
    assert only.cause == "record node b"
    assert only.recorded == "Journal node b body.reason: rust"
    found = tampered(journal, "delete from records where kind = 'node' and key = 'b'")
    assert found.differences[0].recorded.endswith("nothing")


@pytest.mark.parametrize("which", [1, -1])
def test_a_decision_that_is_missing_in_the_journal_is_named(journal: Path, which: int) -> None:
    number, _ = some_row(journal, "incident", which)
    found = tampered(journal, "delete from decisions where id = ?", number)
    assert not found.identical
    assert any("decision on incident" in each.cause or "record incident" in each.cause for each in found.differences)


def test_a_decision_that_nobody_made_is_named(journal: Path) -> None:
    at = UNIX_S + 101.0
    found = tampered(journal, "insert into decisions values (10000, ?, 'node', 'c', '{}')", at)
    assert {each.cause for each in found.differences} == {"decision on node c", "record node c"}


@pytest.mark.parametrize(
    "forgivable",
    [
        pytest.param(lambda path: segments(path)[0].unlink(), id="the first session's log is gone"),
        pytest.param(lambda path: [each.unlink() for each in segments(path)[:2]], id="half of the second's, too"),
    ],
)
def test_rows_of_segments_that_were_removed_are_passed_over(journal: Path, forgivable: Callable[[Path], Any]) -> None:
    forgivable(journal.with_name("journal.sqlite.inputs"))
    found = replay(journal)
    assert (found.identical, found.warnings) == (True, [])


def test_old_rows_that_were_removed_are_not_missed(journal: Path) -> None:
    found = tampered(journal, "delete from decisions where id <= 4")
    assert (found.identical, found.warnings) == (True, [])


def test_what_a_killed_coordinator_had_no_time_to_commit_is_a_warning_and_after_an_orderly_end_a_difference(
    tmp_path: Path,
) -> None:
    for end in ("die", "stop"):
        path = tmp_path / end / "journal.sqlite"
        recorder = Kept(path)
        recorder.live()
        recorder.committed = False
        recorder.live(3, since_s=100.0)
        getattr(recorder, end)()
        found = replay(path)
        assert found.identical is (end == "die")
        assert any("were not committed" in each for each in found.warnings) is (end == "die")


def test_a_session_without_a_log_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    for session, since_s in (("one", 0.0), ("silent", 100.0), ("three", 200.0)):
        recorder = Kept(path, session, start_s=since_s)
        recorder.live(3, since_s=since_s)
        recorder.die()
        if session == "silent":
            segments(recorder.log.folder)[-1].unlink()
    found = replay(path)
    assert (found.identical, found.warnings) == (True, [])


def test_a_journal_in_use_or_damaged_is_a_warning_and_the_log_is_replayed(journal: Path) -> None:
    held = Journal(journal)
    found = replay(journal)
    assert (found.identical, len(found.warnings)) == (True, 1)
    assert "a coordinator is at work on it" in found.warnings[0]
    held.close()
    journal.write_bytes(b"no database at all" * 500)
    found = replay(journal)
    assert (found.identical, len(found.warnings)) == (True, 1)
