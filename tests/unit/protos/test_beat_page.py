"""A beat page is read whole or not at all, whatever its file holds."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzen_protos import beat_file, beat_page
from ryzen_protos.beat_page import PAGE_BYTES, BeatPageError, BeatReader, BeatWriter, Event, Header
from ryzen_protos.beat_records import given_bits

HEADER = Header("run", 3, 1, 1, 4, os.getpid(), 12345, 4026531836)
WRITER_THAT_NEVER_RESTS = """
import sys
from pathlib import Path
from ryzen_protos.beat_page import BeatWriter, Header
page = BeatWriter(Path(sys.argv[1]), Header("run", 1, 0, 0, 1, 1, 1, 1))
sections = [page.section_index(name) for name in ("", "forward", "backward")]
n = 0
while True:
    n += 1
    figures = n + 4, n + 5, n + 6, 15, n + 0.5, n + 0.25, n * 2.0, n * 3.0
    page.progress(n, n + 1, sections[n % 3], n + 2 << 10, n + 3, *figures)
    page.step_done(n, n + 1, n + 2, n + 3, n + 5, n * 4.0, [float(n)] * 8)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.beat"


@pytest.fixture
def busy_writer(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", WRITER_THAT_NEVER_RESTS, str(path)])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def test_no_read_beside_a_busy_writer_is_torn_or_goes_back(path: Path, busy_writer: subprocess.Popen[bytes]) -> None:
    page = BeatReader(path)
    last, distinct = 0, 0
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        seen = page.progress()
        if seen is None:
            assert last == 0
            continue
        n = seen.step
        assert (seen.steps_done, seen.step_started_ns) == (n + 1, n + 3)
        assert (seen.tokens, seen.samples, seen.collectives) == (n + 4, n + 5, n + 6)
        assert (seen.loss, seen.grad_norm) == (n + 0.5, n + 0.25)
        assert (seen.learning_rate, seen.flops) == (n * 2.0, n * 3.0)
        newest = (seen.entered_ns >> 10) - 2  # the section may be of a later store than the newest whole record
        assert seen.section == ("", "forward", "backward")[newest % 3]
        assert newest % 1024 == seen.sequence % 1024
        assert newest >= n >= last
        distinct += n > last
        last = n
    assert distinct > 10, "the writer wrote while the reader read"


def test_the_ring_of_steps_beside_a_busy_writer_holds_only_whole_steps(
    path: Path, busy_writer: subprocess.Popen[bytes]
) -> None:
    page = BeatReader(path)
    for _ in range(50):
        for each in page.steps():
            n = each.step
            assert (each.started_ns, each.duration_ns, each.tokens) == (n + 1, n + 2, n + 3)
            assert (each.collectives, each.squared_lengths) == (n + 5, n * 4.0)
            assert set(each.sections) == {float(n)}


def test_a_writer_killed_in_mid_store_leaves_a_whole_record(path: Path, busy_writer: subprocess.Popen[bytes]) -> None:
    while (seen := BeatReader(path).progress()) is None or seen.step < 1000:
        assert busy_writer.poll() is None
    busy_writer.kill()
    busy_writer.wait()
    left = BeatReader(path).progress()
    assert left is not None
    assert left.steps_done == left.step + 1


@given(cut=st.integers(0, 104), first=st.integers(1, 50))
def test_a_store_cut_short_at_any_byte_shows_the_record_before_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, first: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "page"
    writer = BeatWriter(path, HEADER)
    for step in range(1, first + 1):
        writer.progress(step, step, 0, step, step)
    before = path.read_bytes()
    writer.progress(first + 1, first + 1, 0, first + 1, first + 1)
    after = path.read_bytes()
    writer.close()
    changed = 4096 + ((first + 1) & 1) * 512
    path.write_bytes(before[:changed] + after[changed : changed + cut] + before[changed + cut :])
    seen = BeatReader(path).progress()
    assert seen is not None
    assert seen.step == (first + 1 if cut == 104 else first)


numbers = st.integers(0, (1 << 64) - 1)
floats = st.none() | st.floats(allow_nan=False)


times = st.integers(0, (1 << 58) - 1)  # nine years of nanoseconds


@given(numbers, numbers, times, numbers, floats, floats, floats, floats)
@settings(max_examples=50)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    step: int,
    done: int,
    entered: int,
    tokens: int,
    loss: float | None,
    norm: float | None,
    rate: float | None,
    flops: float | None,
) -> None:
    path = tmp_path_factory.mktemp("page") / "page"
    writer = BeatWriter(path, HEADER)
    section = writer.section_index("evaluation")
    figures = [0.0 if each is None else each for each in (loss, norm, rate, flops)]
    writer.progress(step, done, section, entered, 5, tokens, 6, 7, given_bits(loss, norm, rate, flops), *figures)
    seen = BeatReader(path).progress()
    assert seen is not None
    assert (seen.step, seen.steps_done, seen.section) == (step, done, "evaluation")
    assert 0 <= entered - seen.entered_ns < 1024
    assert (seen.loss, seen.grad_norm, seen.learning_rate, seen.flops) == (loss, norm, rate, flops)


places = st.tuples(st.integers(0, PAGE_BYTES - 64), st.binary(min_size=1, max_size=1) | st.binary(max_size=64))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_content_makes_a_reader_fail(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("hostile") / "page"
    writer = BeatWriter(path, HEADER)
    writer.progress(1, 0, writer.section_index("forward"), 1, 1)
    writer.failure("ValueError", "text")
    writer.event(Event.CHECKPOINT, 7)
    writer.step_done(1, 1, 1, 1, 1, 1.0, [0.0] * 8)
    content = bytearray(path.read_bytes())
    for start, region in data.draw(st.lists(places, max_size=40)):
        content[start : start + len(region)] = region
    path.write_bytes(content)
    try:
        page = BeatReader(path)
    except BeatPageError:
        return
    read_all(page)
    page.close()


@given(st.binary(max_size=512))
def test_no_record_with_a_right_checksum_makes_a_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("forged") / "page"
    BeatWriter(path, HEADER)
    content = bytearray(path.read_bytes())
    forge(content, 4096, beat_page._PROGRESS.size, noise)
    forge(content, 5120, beat_page._FAILURE.size, noise)
    forge(content, 8192, beat_page._STEP.size, noise)
    forge(content, 31744, beat_page._EVENT.size, noise)
    raw = noise[:28].ljust(28, b"\0")
    content[5632:5664] = struct.pack("<I", crc32(raw)) + raw
    path.write_bytes(content)
    page = BeatReader(path)
    read_all(page)
    assert page.progress() is not None
    failure = page.failure()
    assert failure is not None
    assert (failure.type + failure.message).isprintable()
    page.close()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 4000,
        "{}",
        "null",
        '{"run_id": 1}',
        json.dumps({**asdict(HEADER), "pid": -1}),
        json.dumps({**asdict(HEADER), "pid": True}),
        json.dumps({**asdict(HEADER), "rank": 1 << 70}),
        json.dumps({**asdict(HEADER), "run_id": "a\nb"}),
        json.dumps({**asdict(HEADER), "device": None}),
        "1" * 4000,
    ],
)
def test_a_header_that_says_nothing_sensible_is_refused_in_one_line(path: Path, text: str) -> None:
    BeatWriter(path, HEADER)
    content = bytearray(path.read_bytes())
    raw = text.encode()
    content[:20] = beat_file.PREFIX.pack(beat_file.MAGIC, beat_file.VERSION, 0, len(raw), crc32(raw))
    content[20 : 20 + len(raw)] = raw
    path.write_bytes(content)
    with pytest.raises(BeatPageError, match="damaged beat page header") as caught:
        BeatReader(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_beat_page_says_so(path: Path) -> None:
    path.write_bytes(b"hello".ljust(PAGE_BYTES, b"\0"))
    with pytest.raises(BeatPageError, match="no beat page"):
        BeatReader(path)
    path.write_bytes(b"")
    with pytest.raises(BeatPageError, match="0 bytes, a beat page is a file of 40960"):
        BeatReader(path)


def test_a_page_of_another_version_names_both(path: Path) -> None:
    BeatWriter(path, HEADER)
    content = bytearray(path.read_bytes())
    content[8] = 9
    path.write_bytes(content)
    with pytest.raises(BeatPageError, match="version 9, this agent reads 3"):
        BeatReader(path)


def test_links_pipes_and_folders_are_not_opened(tmp_path: Path, path: Path) -> None:
    BeatWriter(tmp_path / "real", HEADER)
    path.symlink_to(tmp_path / "real")
    with pytest.raises(BeatPageError):
        BeatReader(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BeatPageError):
        BeatReader(pipe)
    with pytest.raises(BeatPageError):
        BeatReader(tmp_path)


def test_a_page_of_another_user_is_refused(path: Path) -> None:
    BeatWriter(path, HEADER)
    with pytest.raises(BeatPageError, match="belongs to uid"):
        BeatReader(path, owner_uid=os.getuid() + 1)
    assert BeatReader(path, owner_uid=os.getuid()).header == HEADER


def test_a_file_cut_short_under_the_reader_does_not_kill_it(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    writer.progress(5, 4, 0, 1, 1)
    page = BeatReader(path)
    assert page.progress() is not None
    os.truncate(path, 0)
    seen = page.progress()
    assert seen is not None
    assert seen.step == 5, "the last whole record stays known"
    assert page.failure() is None
    assert list(page.steps()) == []
    assert page.events() == []


def test_a_new_page_keeps_the_one_before_it_as_evidence(path: Path) -> None:
    BeatWriter(path, HEADER).progress(9, 9, 0, 1, 1)
    BeatWriter(path, HEADER)
    left = BeatReader(path.with_name(path.name + ".previous")).progress()
    assert left is not None
    assert left.step == 9
    assert BeatReader(path).progress() is None


def test_the_ring_holds_the_last_256_steps_in_order(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    for step in range(300):
        writer.step_done(step, step, 1, 2, 4, 3.0, [0.0] * 8)
    assert [each.step for each in BeatReader(path).steps()] == list(range(44, 300))


def test_events_after_a_known_one_are_the_new_ones(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    for step in (10, 20, 30):
        writer.event(Event.CHECKPOINT, step)
    page = BeatReader(path)
    assert [each.step for each in page.events()] == [10, 20, 30]
    assert [each.step for each in page.events(after=2)] == [30]


def test_the_ring_of_events_holds_the_newest_and_leaves_out_a_torn_one(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    for step in range(1, 41):
        writer.event(Event.CHECKPOINT, step)
    page = BeatReader(path)
    assert [each.step for each in page.events()] == list(range(9, 41))
    content = bytearray(path.read_bytes())
    at = content.index((39).to_bytes(8, "little"), 31744)
    content[at + 16] ^= 0xFF  # the step of the 39th, without its checksum
    path.write_bytes(content)
    assert [each.step for each in page.events(after=37)] == [38, 40]


def test_the_65th_section_shares_the_name_of_none(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    for index in range(80):
        writer.section_index(f"section-{index}")
    assert len(BeatReader(path).section_names()) == 64
    assert writer.section_index("one more") == 0


def test_text_of_any_kind_can_be_stamped(path: Path) -> None:
    writer = BeatWriter(path, HEADER)
    writer.failure("Fehler\ud800", "größer als \udfff 300 " + "ü" * 400)
    failure = BeatReader(path).failure()
    assert failure is not None
    assert failure.message.startswith("größer als ? 300")


def forge(content: bytearray, at: int, size: int, noise: bytes) -> None:
    raw = noise[:size].ljust(size, b"\xff")
    content[at : at + size + 4] = raw + struct.pack("<I", crc32(raw))


def read_all(page: BeatReader) -> None:
    page.progress()
    page.failure()
    page.section_names()
    list(page.steps())
    page.events()


def page_after(path: Path, steps: range, finished: bool = False) -> BeatReader:
    """A rank in the last of `steps`, with three collectives a step."""
    writer = BeatWriter(path, HEADER)
    for done, step in enumerate(steps):
        writer.progress(step, done, 0, 1, 1, collectives=3 * step)
        if finished or step != steps[-1]:
            writer.step_done(step, 1, 1, 0, 3 * step, 0.0, [0.0] * 8)
    if finished:
        writer.progress(steps[-1], len(steps), 0, 1, 1, collectives=3 * steps[-1])
    return BeatReader(path)


def marks(page: BeatReader, last: int = 0) -> list[tuple[int, int]]:
    progress = page.progress()
    assert progress is not None
    return [tuple(each) for each in page.marks(progress, last)]


def test_marks_are_of_the_newest_step_and_of_those_that_ranks_have_in_common(path: Path) -> None:
    assert marks(page_after(path, range(150))) == [(128, 384), (144, 432), (149, 447)]
    assert marks(page_after(path, range(129))) == [(128, 384)], "each step once"


@pytest.mark.parametrize("finished", [False, True])
def test_marks_of_many_steps_end_where_the_ring_or_the_run_begins(path: Path, finished: bool) -> None:
    page = page_after(path, range(500, 1000), finished)
    assert marks(page, 32) == [(step, 3 * step) for step in range(968, 1000)]
    assert len(marks(page, 1000)) in (256, 257)
    assert marks(page_after(path, range(500, 510), finished), 32) == [(step, 3 * step) for step in range(500, 510)]


def test_a_step_that_the_ring_does_not_hold_has_no_mark(path: Path) -> None:
    page = page_after(path, range(0, 200, 3))
    assert marks(page) == [(198, 594)], "steps with gaps between their numbers are not looked for"
    assert marks(page, 3) == [(192, 576), (195, 585), (198, 594)]
    content = bytearray(path.read_bytes())
    content[8192 : 8192 + 92 * 256] = bytes(92 * 256)
    path.write_bytes(content)
    assert marks(BeatReader(path), 32) == [(198, 594)]
