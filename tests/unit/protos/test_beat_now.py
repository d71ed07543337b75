"""The word that tells the open section goes with the records, in any order of stores."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzen_protos import beat_now
from ryzen_protos.beat_now import stores_between
from ryzen_protos.beat_page import BeatReader, BeatWriter, Header

HEADER = Header("run", 3, 1, 1, 4, os.getpid(), 12345, 4026531836)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.beat"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 5000)), min_size=1, max_size=60))
@settings(max_examples=50)
def test_records_and_words_in_any_order_tell_the_section_entered_last_and_how_many_stores_there_were(
    tmp_path_factory: pytest.TempPathFactory, stores: list[tuple[bool, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("page") / "page"
    writer, names = BeatWriter(path, HEADER), ("", "data", "forward", "backward")
    indices = [writer.section_index(name) for name in names]
    writer.progress(0, 0, 0, 1 << 20, 1)
    page, entered = BeatReader(path), 1 << 20
    for step, (whole, section, later_ns) in enumerate(stores, start=1):
        entered += later_ns
        before = page.progress()
        if whole:
            writer.progress(step, step, indices[section], entered, 1)
        else:
            writer.enter(indices[section], entered)
        seen = page.progress()
        assert before is not None
        assert seen is not None
        assert (seen.section, seen.step) == (names[section], step if whole else before.step)
        assert 0 <= entered - seen.entered_ns < 1024
        assert (seen.sequence, stores_between(before.sequence, seen.sequence)) == (step + 1, 1)


def test_thousands_of_words_without_a_record_are_still_news(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    writer.progress(1, 1, 0, 1, 1)
    page = BeatReader(path)
    counts = []
    for n in range(1, 3001):
        writer.enter(writer.section_index(("data", "forward")[n % 2]), n << 10)
        if n % 100 == 0:
            seen = page.progress()
            assert seen is not None
            assert (seen.section, seen.entered_ns) == (("data", "forward")[n % 2], n << 10)
            counts.append(seen.sequence)
    assert {stores_between(*pair) for pair in pairwise(counts)} == {100}


def test_a_page_of_version_3_has_no_word_and_is_read_by_its_records(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    writer.progress(1, 1, writer.section_index("forward"), 5 << 10, 1)
    content = bytearray(path.read_bytes())
    content[beat_now.AT : beat_now.AT + beat_now.BYTES] = bytes(beat_now.BYTES)
    content[8] = 3
    path.write_bytes(content)
    seen = BeatReader(path).progress()
    assert seen is not None
    assert (seen.sequence, seen.section, seen.entered_ns) == (1, "forward", 5 << 10)
