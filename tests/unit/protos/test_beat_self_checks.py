"""How checks of a rank's own arithmetic stand, in the beat page."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_protos import beat_self_checks
from ryzen_protos.beat_page import PAGE_BYTES, BeatReader, BeatWriter, Header
from ryzen_protos.beat_self_checks import KNOWN_ANSWER, RECOMPUTE, REPLAY, SelfCheck

HEADER = Header("run", 3, 1, 1, 4, 99, 12345, 4026531836)
ALL = (1 << 64) - 1


def test_each_kind_has_one_place_and_its_newest_word(tmp_path: Path) -> None:
    writer, reader = BeatWriter(tmp_path / "beat", HEADER), BeatReader(tmp_path / "beat")
    assert beat_self_checks.unpack(reader.region(beat_self_checks.AT, beat_self_checks.BYTES)) == {}
    writer.check(20, 7)
    for agreed in (1, 2):
        for kind in (KNOWN_ANSWER, RECOMPUTE, REPLAY):
            writer.put(*beat_self_checks.pack(SelfCheck(kind, agreed, 1, 30, 40, ALL, ALL - kind)))
    found = beat_self_checks.unpack(reader.region(beat_self_checks.AT, beat_self_checks.BYTES))
    assert found == {kind: SelfCheck(kind, 2, 1, 30, 40, ALL, ALL - kind) for kind in (1, 2, 3)}
    assert [each.digest for each in reader.checks()] == [7]
    assert beat_self_checks.AT + beat_self_checks.BYTES <= PAGE_BYTES


def test_what_does_not_fit_is_not_entered(tmp_path: Path) -> None:
    writer, reader = BeatWriter(tmp_path / "beat", HEADER), BeatReader(tmp_path / "beat")
    for wrong in (SelfCheck(REPLAY, agreed=-1), SelfCheck(REPLAY, agreed=1 << 32), SelfCheck(REPLAY, digest=ALL + 1)):
        with pytest.raises(struct.error):
            writer.put(*beat_self_checks.pack(wrong))
    assert beat_self_checks.unpack(reader.region(beat_self_checks.AT, beat_self_checks.BYTES)) == {}


@given(st.binary(min_size=beat_self_checks.BYTES, max_size=beat_self_checks.BYTES))
def test_rubbish_is_no_word(rubbish: bytes) -> None:
    assert beat_self_checks.unpack(rubbish) == {}


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_torn_record_is_none(at: int, change: int) -> None:
    start, raw = beat_self_checks.pack(SelfCheck(REPLAY, 3, 1, 2, 4, 5, 6))
    region = bytearray(beat_self_checks.BYTES)
    place = start - beat_self_checks.AT
    region[place : place + len(raw)] = raw
    region[place + at % len(raw)] ^= change
    assert beat_self_checks.unpack(bytes(region)) == {}
