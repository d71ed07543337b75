"""The journal: a real SQLite file, written from several threads, refused where it would not be safe."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_coordinator import journal as module
from ryzen_coordinator.core.effects import Journal as JournalRecord
from ryzen_coordinator.errors import JournalError
from ryzen_coordinator.journal import Journal, refuse_network_file_system

WRITES = 20


def test_decisions_and_node_events_written_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    failures: list[JournalError] = []

    def decide(writer: int) -> None:
        try:
            for number in range(WRITES):
                journal.write([JournalRecord("job", f"u/{writer}-{number}", {"generation": number})], unix_s=1.0)
                journal.write_events("node-0", [(writer * WRITES + number, 1, "rank_exit", "job", {})])
        except JournalError as error:
            failures.append(error)

    threads = [threading.Thread(target=decide, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert not failures
    again = Journal(tmp_path / "journal.sqlite")
    assert len(again.records()) == 3 * WRITES
    again.close()


def test_a_journal_is_closed_after_what_a_thread_is_writing_and_tells_who_comes_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    begun, may_end = threading.Event(), threading.Event()

    def slowly() -> Iterator[JournalRecord]:
        yield JournalRecord("job", "u/a", {})
        begun.set()
        may_end.wait()
        yield JournalRecord("job", "u/b", {})

    writing = threading.Thread(target=journal.write, args=(slowly(), 1.0))
    writing.start()
    begun.wait()
    closing = threading.Thread(target=journal.close)
    closing.start()
    closing.join(timeout=0.2)
    waited = closing.is_alive()
    may_end.set()
    writing.join()
    closing.join()
    assert waited
    with pytest.raises(JournalError, match="closed"):
        journal.write_events("node-0", [(1, 1, "rank_exit", "job", {})])
    again = Journal(tmp_path / "journal.sqlite")
    assert [key for _, key, _ in again.records()] == ["u/a", "u/b"]
    again.close()


def test_a_number_that_sqlite_cannot_keep_is_refused_in_words_and_the_journal_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    with pytest.raises(JournalError, match="too large"):
        journal.write_events("node-0", [(1 << 63, 1, "rank_exit", "job", {})])
    journal.write([JournalRecord("job", "u/a", {})], unix_s=1.0)
    assert [key for _, key, _ in journal.records()] == ["u/a"]
    journal.close()


def test_a_path_on_a_network_file_system_is_refused_by_name() -> None:
    with pytest.raises(JournalError, match="lies on NFS, where SQLite's write-ahead log is not safe") as refused:
        refuse_network_file_system(Path("/mnt/journal.sqlite"), file_system=0x6969)
    assert len(str(refused.value).splitlines()) == 1


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    stranger = tmp_path / "notes.txt"
    stranger.write_text("not a database, and long enough to be read as the header of one\n" * 40)
    before = stranger.read_text()
    with pytest.raises(JournalError, match="not a journal of ryzen"):
        Journal(stranger)
    assert stranger.read_text() == before


def test_a_second_coordinator_on_the_same_journal_is_told_so(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.sqlite")
    first.write([JournalRecord("job", "u/a", {})], unix_s=1.0)
    with pytest.raises(JournalError, match="another coordinator uses it"):
        Journal(tmp_path / "journal.sqlite")
    first.close()


def filled(path: Path, writes: int = 400) -> Journal:
    journal = Journal(path)
    for number in range(writes):
        journal.write([JournalRecord("job", f"u/{number % 40}", {"n": number, "text": "x" * 500})], unix_s=1.0)
    return journal


def test_a_log_that_was_torn_in_the_middle_of_a_commit_loses_that_commit_alone(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.sqlite", writes=20)
    journal.write([JournalRecord("job", "u/last", {"n": 1})], unix_s=1.0)
    copy = tmp_path / "copy.sqlite"
    for suffix in ("", "-wal"):  # as the files are when the machine stops
        copy.with_name(copy.name + suffix).write_bytes((tmp_path / f"journal.sqlite{suffix}").read_bytes())
    journal.close()
    log = tmp_path / "copy.sqlite-wal"
    log.write_bytes(log.read_bytes()[:-700])
    again = Journal(copy)
    keys = [key for _, key, _ in again.records()]
    assert (len(keys), "u/last" in keys) == (20, False)
    again.write([JournalRecord("job", "u/last", {"n": 2})], unix_s=1.0)
    again.close()


@pytest.mark.parametrize("checked_whole", [True, False])
def test_a_damaged_page_is_refused_with_its_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked_whole: bool
) -> None:
    path = tmp_path / "journal.sqlite"
    filled(path).close()
    good = path.read_bytes()
    monkeypatch.setattr(module, "CHECKED_WHOLE_BYTES", 1 << 30 if checked_whole else 0)
    pages = len(good) // 4096
    refused = 0
    for page in range(1, pages):
        path.write_bytes(good[: page * 4096] + b"\xa5" * 4096 + good[(page + 1) * 4096 :])
        text = refusal(path)
        refused += bool(text)
        if text:
            assert text.startswith(f"journal {path}: damaged")
            assert "give another --journal" in text
            assert "offset" not in text or f"offset {page * 4096} " in text
    assert refused == pages - 1 if checked_whole else 0 < refused < pages - 1


def refusal(path: Path) -> str:
    """Why a journal is refused; "" if its records are whole."""
    try:
        journal = Journal(path)
    except JournalError as error:
        return str(error)
    assert len(journal.records()) == 40
    journal.close()
    return ""


def test_a_journal_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    filled(path).close()
    path.write_bytes(path.read_bytes()[: 10 * 4096])
    with pytest.raises(JournalError, match="damaged"):
        Journal(path)
