"""What one agent writes for the next."""

from __future__ import annotations

from pathlib import Path

from ryzen_agent import record
from ryzen_agent.record import JobRecord, RecordedRank

RECORD = JobRecord(
    "job", "ada", 1000, "/run/ryzen/1000", 42, 777,
    (RecordedRank(3, 1, 2, 43, 778, exited=True, exit_code=None, killed=False),),
)  # fmt: skip


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    record.save(tmp_path, RECORD)
    assert record.load_all(tmp_path) == [RECORD]


def test_what_was_removed_is_gone(tmp_path: Path) -> None:
    record.save(tmp_path, RECORD)
    record.remove(tmp_path, 1000, "job")
    record.remove(tmp_path, 1000, "job")
    assert record.load_all(tmp_path) == []


def test_two_users_may_use_one_run_id(tmp_path: Path) -> None:
    record.save(tmp_path, RECORD)
    other = JobRecord("job", "bob", 1001, "/run/ryzen/1001", 50, 1, ())
    record.save(tmp_path, other)
    assert record.load_all(tmp_path) == [RECORD, other]


def test_a_damaged_record_is_removed_and_the_others_are_loaded(tmp_path: Path) -> None:
    record.save(tmp_path, RECORD)
    for name, text in {"a": "{", "b": "[]", "c": '{"run_id": "../x"}', "d": "{}"}.items():
        (tmp_path / record.FOLDER / f"{name}.json").write_text(text)
    assert record.load_all(tmp_path) == [RECORD]
    assert len(list((tmp_path / record.FOLDER).iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / record.FOLDER).write_text("in the way")
    record.save(tmp_path, RECORD)
    assert record.load_all(tmp_path) == []
