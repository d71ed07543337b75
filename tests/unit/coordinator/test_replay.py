"""Replay says that nothing differs only if nothing does, and where and in what something does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzen_coordinator.cli import instant
from ryzen_coordinator.core import lifecycle
from ryzen_coordinator.core.state import Cluster
from ryzen_coordinator.errors import ReplayError
from ryzen_coordinator.inputs.entries import Call, raised
from ryzen_coordinator.inputs.found import Window, lines, parts
from ryzen_coordinator.inputs.frames import DamageError, scan
from ryzen_coordinator.inputs.writer import segments
from ryzen_coordinator.replay import replay

from .recorded import UNIX_S, Recorder, rewrite


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A journal's path with a log of three segments of one session beside it."""
    recorder = Recorder(tmp_path / "journal.sqlite.inputs")
    for part in range(3):
        recorder.live(3, since_s=100.0 * part)
        recorder.log.wants_state = part < 2
    recorder.log.close(recorder.now_s)
    assert len(segments(tmp_path / "journal.sqlite.inputs")) == 3
    return tmp_path / "journal.sqlite"


def files(journal: Path) -> list[Path]:
    return segments(journal.with_name("journal.sqlite.inputs"))


def test_the_same_code_makes_the_same_decisions_and_they_are_told_in_words(logged: Path) -> None:
    found = replay(logged)
    assert (found.identical, found.segments, found.sessions, found.warnings) == (True, 3, 1, [])
    text = "\n".join(lines(found))
    assert "2023-11-14T22:13:20.010Z  info     job: world of generation 1: a, b" in text
    assert "b is evicted: dust" in text
    assert "job: exit, rank 1, b -> restart" in text
    assert text.endswith("identical")


def test_one_segment_alone_and_the_folder_can_be_replayed_too(logged: Path) -> None:
    whole = replay(logged).calls
    assert sum(replay(path).calls for path in files(logged)) == whole
    assert replay(files(logged)[0].parent).calls == whole


def test_other_code_is_noticed_at_the_call_where_it_first_decides_otherwise(
    logged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "advance", lambda *_: None)
    found = replay(logged)
    assert not found.identical
    first = found.differences[0]
    assert first.cause == "update 2 of a"
    assert "Journal job me/job" in first.recorded
    assert any(line.startswith("DIFFERS") for line in lines(found))


def test_a_tampered_decision_is_named_with_offset_time_and_both_versions(logged: Path) -> None:
    rewrite(files(logged)[1], lambda chunks: [each.replace(b"evicted: dust", b"evicted: rust") for each in chunks])
    found = replay(logged)
    assert found.differing == 1
    (only,) = found.differences
    assert only.cause == "OperatorEvict b"
    assert (only.recorded, only.now) == ("Say text: b is evicted: rust", "Say text: b is evicted: dust")
    assert only.file == str(files(logged)[1])
    assert only.offset in {frame.offset for frame in scan(files(logged)[1].read_bytes(), "").frames}
    assert UNIX_S + 100 < only.unix_s < UNIX_S + 200


def test_a_tampered_state_is_noticed_where_the_segment_begins(logged: Path) -> None:
    def change(payloads: list[bytes]) -> list[bytes]:
        return [payloads[0].replace(b'"host-a"', b'"host-x"'), *payloads[1:]]

    rewrite(files(logged)[1], change)
    found = replay(logged)
    assert not found.identical
    assert found.differences[0].cause == "the state that it begins with"
    assert found.differences[0].recorded == "cluster.nodes.a.hello.host: host-x"


def test_a_call_that_raised_must_raise_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path)
    recorder.live(1)

    advance = lifecycle.advance

    def fails(cluster: Cluster, *others: Any) -> None:
        if cluster.now_s == 50.0:
            raise KeyError("node-7")
        advance(cluster, *others)

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "advance", fails)
        with pytest.raises(KeyError) as error:
            recorder.call(None, 50.0)
        recorder.log.add(Call(50.0, None, raised(error.value)), recorder.core)
        recorder.log.flush()
        assert replay(tmp_path).identical
    (difference,) = replay(tmp_path).differences
    assert difference.recorded == "KeyError: 'node-7'"


def test_a_window_of_time_is_shown_and_nothing_is_run_that_lies_outside(logged: Path) -> None:
    found = replay(logged, Window(from_s=UNIX_S + 99, until_s=UNIX_S + 150))
    assert {100 <= each.unix_s - UNIX_S < 150 for each in found.decisions} == {True}
    assert found.until_unix_s is not None
    assert found.until_unix_s < UNIX_S + 150


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1700000000.5", 1_700_000_000.5), ("2023-11-14T22:13:20Z", UNIX_S), ("2023-11-14 22:13:20", UNIX_S),
     ("2023-11-14T23:13:20+01:00", UNIX_S), (None, 7.0)],
)  # fmt: skip
def test_times_are_iso_8601_or_seconds(text: str | None, seconds: float) -> None:
    assert instant(text, "--from", 7.0) == seconds


def test_a_missing_log_another_file_and_another_version_are_each_one_line(logged: Path, tmp_path: Path) -> None:
    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\0")
    (tmp_path / "empty").mkdir()
    newer = tmp_path / "newer.segment"
    shutil.copy(files(logged)[0], newer)
    rewrite(newer, lambda payloads: [payloads[0].replace(b'"format":1', b'"format":9'), *payloads[1:]])
    field = tmp_path / "field.segment"
    shutil.copy(files(logged)[0], field)
    rewrite(field, lambda payloads: [payloads[0].replace(b'"ranks_per_node"', b'"ranks_per_host"'), *payloads[1:]])
    for path, words in {
        tmp_path / "nowhere": "No such file",
        tmp_path / "other.sqlite": "has no log of inputs",
        tmp_path / "empty": "no segments",
        newer: "written by another version of ryzen (format 9, here 1)",
        field: "written by another version of ryzen",
    }.items():
        with pytest.raises(ReplayError) as error:
            replay(path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_a_segment_cut_short_in_the_middle_of_a_session_is_damage_and_not_an_end(logged: Path) -> None:
    first = files(logged)[0]
    data = first.read_bytes()
    last = scan(data, "").frames[-1].offset
    for end in (last, last + 5, len(data) - 1):
        first.write_bytes(data[:end])
        with pytest.raises(DamageError, match=rf"{first}: damaged at offset {last}"):
            replay(logged)
    first.unlink()
    assert replay(logged).identical  # the oldest may be gone
    first.write_bytes(data)
    files(logged)[1].unlink()
    with pytest.raises(DamageError, match="missing"):
        replay(logged)


def test_the_end_of_the_last_segment_may_be_half_written(logged: Path) -> None:
    last = files(logged)[-1]
    data = last.read_bytes()
    whole = replay(logged).calls
    last.write_bytes(data[: scan(data, "").frames[-2].offset + 30])
    found = replay(logged)
    assert found.identical
    assert found.calls < whole
    assert f"{last}: cut at offset" in found.warnings[0]
    last.write_bytes(data[:7])
    assert "cut at offset 0" in replay(logged).warnings[0]


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_segments_bytes_no_replay_is_silently_wrong(logged: Path, data: st.DataObject) -> None:
    """Damage is an error in words, or a shorter log with a warning; never a traceback, never another decision."""
    path = data.draw(st.sampled_from(files(logged)))
    good = path.read_bytes()
    whole = replay(logged)
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "lose"]))
    changed = {
        "flip": good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
        "cut": good[:at],
        "lose": good[:at] + good[at + data.draw(st.integers(1, 300)) :],
    }[kind]
    path.write_bytes(changed)
    refused, found = "", None
    try:
        found = replay(logged)
    except ReplayError as error:
        refused = str(error)
    finally:
        path.write_bytes(good)
    if found is None:
        assert refused.startswith(str(path))
        assert "\n" not in refused
    else:
        assert found.identical
        assert found.decisions == whole.decisions[: len(found.decisions)]
        starts = {0, *(frame.offset for frame in scan(good, "").frames)}
        assert found.warnings or len(changed) in starts


def test_the_first_difference_is_told_by_the_names_of_its_fields() -> None:
    recorded = [["Journal", "job", "me/lab", ["d", "generation", 2, "slots", ["t", "a", "b"]]]]
    now = json.loads(json.dumps(recorded))
    now[0][3][4] = ["t", "a", "c"]
    assert parts(recorded, now) == (
        "Journal job me/lab body.slots.1: b",
        "Journal job me/lab body.slots.1: c",
    )
    assert parts([], now)[0].endswith("nothing")
