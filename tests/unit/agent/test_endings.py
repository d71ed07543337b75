"""What the kernel and torchrun say of a rank's end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent import procfs
from ryzen_agent.endings import OomCount, events_file, parse_error, parse_oom_kills, read_error_file

EVENTS = b"low 0\nhigh 0\nmax 81\noom 2\noom_kill 1\noom_group_kill 0\n"
VMSTAT = b"nr_free_pages 1520\noom_kill 7\nnuma_hit 33\n"


def test_out_of_memory_kills_are_read_from_either_file() -> None:
    assert parse_oom_kills(EVENTS) == 1
    assert parse_oom_kills(VMSTAT) == 7
    with pytest.raises(ValueError):
        parse_oom_kills(b"low 0\noom 3\n")


def test_the_count_tells_of_a_kill_since_the_last_look(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    path.write_text("oom_kill 1\n")
    count = OomCount(path)
    assert not count.has_grown()
    path.write_text("oom_kill 2\n")
    assert count.has_grown()
    OomCount.look_at([count])
    assert not count.has_grown(), "that one was of somebody else: this process lives"


def test_ranks_that_share_a_file_cost_one_read_a_look_and_each_knows_of_the_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, other = tmp_path / "memory.events", tmp_path / "other.events"
    shared.write_text("oom_kill 1\n")
    other.write_text("oom_kill 5\n")
    ranks, stranger = [OomCount(shared) for _ in range(8)], OomCount(other)
    read = []
    take = procfs.read_file
    monkeypatch.setattr(procfs, "read_file", lambda path: read.append(path) or take(path))  # type: ignore[func-returns-value]
    OomCount.look_at([*ranks, stranger])
    assert sorted(read) == sorted([shared, other])
    shared.write_text("oom_kill 2\n")
    assert all(rank.has_grown() for rank in ranks)
    assert not stranger.has_grown(), "its own file stands still"


def test_a_rank_that_is_found_after_a_kill_is_not_accused_of_it(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    path.write_text("oom_kill 1\n")
    early = OomCount(path)
    OomCount.look_at([early])
    path.write_text("oom_kill 2\n")
    late = OomCount(path)
    assert early.has_grown()
    assert not late.has_grown()


def test_a_count_that_cannot_be_read_accuses_nobody(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    count = OomCount(path)
    path.write_text("oom_kill 5\n")
    assert not count.has_grown(), "what was there before is unknown"


def test_the_control_group_names_its_file() -> None:
    assert events_file("0::/user.slice/a.scope\n") == Path("/sys/fs/cgroup/user.slice/a.scope/memory.events")
    assert events_file("12:memory:/docker/1\n") is None
    assert events_file("0::/../../../etc\n") is None


def test_an_error_file_gives_type_and_first_line() -> None:
    text = json.dumps({"message": {"message": "torch.OutOfMemoryError: CUDA\nout of memory", "extraInfo": {}}})
    assert parse_error(text.encode()) == ("OutOfMemoryError", "CUDA out of memory")
    assert parse_error(b'{"message": "it broke"}') == ("", "it broke")


@given(st.binary() | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["message", "extraInfo"]), inner)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_stands_in_an_error_file_cannot_fail_the_agent(text: bytes) -> None:
    found = parse_error(text)
    assert found is None or all(each.isprintable() for each in found)


def test_only_a_small_regular_file_of_that_user_is_read(tmp_path: Path) -> None:
    path, uid = tmp_path / "error.json", os.getuid()
    path.write_text('{"message": {"message": "ValueError: it broke"}}')
    assert read_error_file(path, uid) == ("ValueError", "it broke")
    assert read_error_file(path, uid + 1) is None
    (tmp_path / "link").symlink_to(path)
    assert read_error_file(tmp_path / "link", uid) is None
    os.mkfifo(tmp_path / "pipe")
    assert read_error_file(tmp_path / "pipe", uid) is None
    path.write_text('{"message": "' + "x" * (300 << 10) + '"}')
    assert read_error_file(path, uid) is None
    assert read_error_file(tmp_path / "none", uid) is None
    assert read_error_file(Path("a\0b"), uid) is None
