"""Damage of any kind is cut at the end, refused with its offset before it, and never read as something else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.inputs import frames
from ryzen_coordinator.inputs.frames import DamageError, scan

PAYLOADS = [b"header", b"a" * 300, b"", bytes(range(256)) * 3, b"RyzIRyzI", b"last"]
WHOLE = b"".join(frames.pack(number, payload) for number, payload in enumerate(PAYLOADS))
STARTS = [frame.offset for frame in scan(WHOLE, "f").frames]


def payloads(data: bytes) -> list[bytes]:
    return [frame.payload for frame in scan(data, "f").frames]


def test_whole_frames_come_back() -> None:
    assert payloads(WHOLE) == PAYLOADS
    assert not scan(WHOLE, "f").torn
    assert payloads(b"") == []


@given(st.integers(0, len(WHOLE)))
def test_a_file_cut_anywhere_keeps_what_is_whole(end: int) -> None:
    seen = scan(WHOLE[:end], "f")
    kept = sum(start <= end for start in [*STARTS[1:], len(WHOLE)])
    assert [frame.payload for frame in seen.frames] == PAYLOADS[:kept]
    assert seen.torn == (seen.end < end)
    assert seen.end == ([*STARTS, len(WHOLE)][kept])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_byte_in_the_last_frame_cuts_it_and_before_it_is_refused_with_its_offset(at: int, flip: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= flip
    frame = max(start for start in STARTS if start <= at)
    if frame == STARTS[-1]:
        seen = scan(bytes(data), "f")
        assert (seen.torn, seen.end) == (True, STARTS[-1])
        assert [each.payload for each in seen.frames] == PAYLOADS[:-1]
    else:
        with pytest.raises(DamageError, match=rf"^f: damaged at offset {frame}:"):
            scan(bytes(data), "f")


@given(st.data())
def test_bytes_lost_or_inserted_anywhere_never_give_another_sequence(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE)))
    lost, inserted = data.draw(st.integers(0, 200)), data.draw(st.binary(max_size=60))
    try:
        found = payloads(WHOLE[:at] + inserted + WHOLE[at + lost :])
    except DamageError:
        return
    assert found == PAYLOADS[: len(found)]


def test_missing_repeated_and_exchanged_frames_are_damage() -> None:
    parts = [frames.pack(number, payload) for number, payload in enumerate(PAYLOADS)]
    for order in ([0, 2, 3], [0, 1, 1, 2], [0, 2, 1, 3], [1, 2]):
        with pytest.raises(DamageError, match="damaged at offset"):
            scan(b"".join(parts[index] for index in order), "f")


def test_a_length_of_four_gigabytes_is_no_reason_to_read_them() -> None:
    data = bytearray(WHOLE)
    struct.pack_into("<I", data, STARTS[1] + 4, 0xFFFFFFFF)
    with pytest.raises(DamageError, match=f"offset {STARTS[1]}"):
        scan(bytes(data), "f")


@given(st.binary(max_size=400))
def test_any_other_file_is_all_torn_end(data: bytes) -> None:
    assert payloads(data) == []
