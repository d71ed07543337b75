"""Check results in the beat page."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_protos import beat_checks
from ryzen_protos.beat_page import BeatReader, BeatWriter, Header

HEADER = Header("run", 3, 1, 1, 4, 99, 12345, 4026531836)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.beat"


def test_the_newest_eight_results_are_there_in_their_order(path: Path) -> None:
    writer, reader = BeatWriter(path, HEADER), BeatReader(path)
    assert reader.checks() == ()
    for step in range(20, 220, 20):
        writer.check(step, (1 << 64) - step, group=7)
    seen = reader.checks()
    assert [each.step for each in seen] == list(range(60, 220, 20))
    assert {(each.digest + each.step, each.group) for each in seen} == {(1 << 64, 7)}


def test_a_result_that_does_not_fit_is_not_entered_and_the_device_is_left_alone(path: Path) -> None:
    writer, reader = BeatWriter(path, HEADER), BeatReader(path)
    writer.device("GPU-" + "0" * 92, "0" * 32)
    with pytest.raises(struct.error):
        writer.check(-1, 1)
    with pytest.raises(struct.error):
        writer.check(1, 1, group=1 << 16)
    assert reader.checks() == ()
    writer.check(1, 2)
    assert reader.device() == ("GPU-" + "0" * 92, "0" * 32)


@given(st.binary(min_size=256, max_size=256))
def test_rubbish_is_no_result(rubbish: bytes) -> None:
    assert beat_checks.unpack(rubbish) == ()


def test_a_torn_result_is_passed_over(path: Path) -> None:
    writer, reader = BeatWriter(path, HEADER), BeatReader(path)
    writer.check(20, 1)
    writer.check(40, 2)
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"\xff", beat_checks.CHECKS_AT + 2 * beat_checks.CHECK_BYTES + 8)
    os.close(descriptor)
    assert [each.step for each in reader.checks()] == [20]
