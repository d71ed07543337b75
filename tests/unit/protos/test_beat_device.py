"""The GPU of a rank in its beat page."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzen_protos.beat_page import BeatReader, BeatWriter, Header

HEADER = Header("run", 3, 1, 1, 4, 99, 12345, 4026531836)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.beat"


def test_the_device_is_known_once_it_was_entered(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    page = BeatReader(path)
    assert page.device() == ("", "")
    writer.device("GPU-" + "0" * 36, "0000:05:00")
    assert page.device() == ("GPU-" + "0" * 36, "0000:05:00")
    writer.device("", "0000:06:00")
    assert page.device() == ("", "0000:06:00")


def test_a_page_from_before_devices_were_entered_says_what_its_header_says(path: Path) -> None:
    BeatWriter(path, replace(HEADER, device="GPU-1"))
    assert BeatReader(path).device() == ("GPU-1", "")


@given(st.binary(min_size=512, max_size=512))
@settings(max_examples=200)
def test_a_device_of_any_bytes_is_printable_text(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("page") / "rank-0.beat"
    BeatWriter(path, HEADER)
    for whole in (raw, raw[:132] + struct.pack("<I", crc32(raw[:132])) + raw[136:]):
        with path.open("r+b") as file:
            file.seek(7680)
            file.write(whole)
        assert all(each.isprintable() for each in BeatReader(path).device())
