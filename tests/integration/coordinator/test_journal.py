"""The journal: a real SQLite file, written from several threads, refused where it would not be safe."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ryzen_coordinator.core.effects import Journal as JournalRecord
from ryzen_coordinator.errors import JournalError
from ryzen_coordinator.journal import Journal, refuse_network_file_system

WRITES = 60


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
