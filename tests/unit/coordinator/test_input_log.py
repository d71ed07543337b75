"""The log of inputs is private, bounded, and never in the way of a decision."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ryzen_coordinator.inputs import reader, writer
from ryzen_coordinator.inputs.writer import InputLog, segments
from ryzen_coordinator.replay import replay

from .recorded import Recorder, calls


def test_everything_is_read_back_in_its_order_and_only_its_owner_may(tmp_path: Path) -> None:
    folder = tmp_path / "j.inputs"
    recorder = Recorder(folder)
    recorder.live()
    recorder.log.close(recorder.now_s)
    (segment,) = segments(folder)
    read = list(calls(segment))
    assert len(read) == recorder.calls
    assert [call.now_s for call in read] == sorted(call.now_s for call in read)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600


def test_nothing_is_written_before_a_flush_and_all_is_after_it_though_nothing_was_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, flush_every=1000)
    recorder.live()
    assert segments(tmp_path) == []
    recorder.log.flush()
    assert len(list(calls(segments(tmp_path)[0]))) == recorder.calls


def test_old_segments_make_room_and_what_is_left_replays(tmp_path: Path) -> None:
    bytes_max = 1 << 19
    recorder = Recorder(tmp_path, bytes_max=bytes_max)
    recorder.log._segment_bytes = 4000  # the least is 64 KiB
    sizes = []
    for minute in range(40):
        recorder.live(2, since_s=10.0 * minute)
        sizes.append(sum(path.stat().st_size for path in segments(tmp_path)))
        if minute == 20:
            recorder.log._bytes_max = 40_000
    recorder.log.close(recorder.now_s)
    assert len(segments(tmp_path)) > 2
    assert int(segments(tmp_path)[0].stem) > 2
    assert sizes[20] > 40_000 >= sizes[-1]
    found = replay(tmp_path)
    assert found.identical
    assert found.warnings == []
    assert 0 < found.calls < recorder.calls


def test_many_short_lives_leave_a_bounded_number_of_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENTS_MAX", 3)
    for life in range(6):
        recorder = Recorder(tmp_path, session=str(life))
        recorder.live(1)
        recorder.log.close(recorder.now_s)
    assert [path.stem for path in segments(tmp_path)] == ["00000004", "00000005", "00000006"]


def test_the_torn_end_of_a_killed_coordinator_is_cut_with_a_warning_at_the_next_start(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.live()
    recorder.log.flush()
    (segment,) = segments(tmp_path)
    whole = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(b"RyzI\x40\x00")
    with capture_logs() as said:
        InputLog(tmp_path, 1 << 20, "t")
    assert segment.stat().st_size == whole
    assert [(each["log_level"], each["offset"]) for each in said] == [("warning", whole)]


def test_a_segment_without_a_whole_header_is_removed_at_the_next_start(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.live()
    recorder.log.flush()
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:50])
    again = Recorder(tmp_path, "t")
    again.live()
    again.log.close(again.now_s)
    assert [path.stem for path in segments(tmp_path)] == ["00000002"]
    assert replay(tmp_path).warnings == []


def test_damage_in_the_middle_is_said_at_the_start_and_left_for_replay_to_refuse(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.live()
    recorder.log.close(recorder.now_s)
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with capture_logs() as said:
        InputLog(tmp_path, 1 << 20, "t")
    assert segment.read_bytes() == data
    assert "damaged at offset" in said[0]["reason"]


def test_a_disk_that_fails_is_said_once_and_a_new_segment_begins_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path)
    recorder.live(1)
    write, full = os.write, True

    def fails(file: int, data: Any) -> int:
        if full:
            write(file, data[:5])  # as much as there was room for
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", fails)
    with capture_logs() as said:
        for minute in range(1, 4):
            recorder.live(1, since_s=60.0 * minute)
        assert [each["log_level"] for each in said] == ["error"]
        assert "No space left on device" in said[0]["reason"]
        full = False
        recorder.log._retry_at_s = 0.0
        recorder.live(2, since_s=300.0)
        recorder.log.close(recorder.now_s)
    assert [each["log_level"] for each in said] == ["error", "info"]
    first, second = (reader.read(path) for path in segments(tmp_path))
    assert first is not None
    assert second is not None
    assert (first.torn_at, second.continues) == (None, False)
    found = replay(tmp_path)
    assert (found.identical, found.segments) == (True, 2)


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "j.inputs").write_text("a file")
    with capture_logs() as said:
        recorder = Recorder(tmp_path / "j.inputs")
        recorder.live()
        recorder.log.close(recorder.now_s)
    assert [each["log_level"] for each in said] == ["error"]


def test_a_disk_that_cannot_keep_up_costs_the_log_and_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BACKLOG_MAX", 50)
    recorder = Recorder(tmp_path)
    recorder.live(1)
    recorder.flush_every = 1 << 30  # every flush hangs
    recorder.live(6, since_s=10.0)
    assert len(recorder.log._queue) <= 51
    with capture_logs() as said:
        recorder.log.flush()
        recorder.log._retry_at_s = 0.0
        recorder.flush_every = 3
        recorder.live(2, since_s=20.0)
        recorder.log.close(recorder.now_s)
    assert "too slow" in said[0]["reason"]
    found = replay(tmp_path)
    assert (found.identical, found.segments) == (True, 2)
    assert found.calls < recorder.calls
