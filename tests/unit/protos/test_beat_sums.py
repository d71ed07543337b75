"""The ring of gradient sums: the newest are kept in order, and what is damaged is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_protos import beat_sums
from ryzen_protos.beat_page import BeatReader, BeatWriter, Header


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.beat"


def test_the_newest_sums_are_kept_oldest_first(path: Path) -> None:
    writer = BeatWriter(path, Header("run", 3, 1, 1, 4, 99, 12345, 4026531836))
    assert BeatReader(path).sums() == []
    for number in range(beat_sums.SUMS + 20):
        writer.sum_done(number, number + 5)
    assert BeatReader(path).sums() == [(number, number + 5) for number in range(20, beat_sums.SUMS + 20)]


def test_a_damaged_sum_and_one_that_ends_before_it_begins_are_left_out(path: Path) -> None:
    writer = BeatWriter(path, Header("run", 3, 1, 1, 4, 99, 12345, 4026531836))
    writer.sum_done(1, 2)
    writer.sum_done(9, 3)
    writer.sum_done(3, 4)
    with path.open("r+b") as file:
        file.seek(beat_sums.AT + 3 * 28 + 10)
        file.write(b"x")
    assert BeatReader(path).sums() == [(1, 2)]


@given(st.binary(min_size=beat_sums.BYTES, max_size=beat_sums.BYTES))
def test_any_bytes_can_be_read(raw: bytes) -> None:
    beat_sums.read(raw)
