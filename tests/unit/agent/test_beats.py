"""Progress and silences from real pages; the clock is the test's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ryzen_agent.beats import FIRST_STEP, SKIPS_KEPT, START_SECTION, WINDOW_S, Gaps, PageFinder, PageTrack, silence_s
from ryzen_protos import beat_now
from ryzen_protos.beat_page import BeatReader, BeatWriter, Event, Header, Skip

S = 1_000_000_000
TICK_S = 2e-6
"""Times are told in ticks of 1,024 ns."""


@pytest.fixture
def page(tmp_path: Path) -> BeatWriter:
    return writer(tmp_path / "rank-0.beat")


def writer(path: Path, generation: int = 1, pid: int = 1) -> BeatWriter:
    return BeatWriter(path, Header("job", generation, 0, 0, 1, pid, 1, 1))


def track(page: BeatWriter, tmp_path: Path, born_ns: int | None = None) -> PageTrack:
    return PageTrack(BeatReader(tmp_path / "rank-0.beat"), born_ns)


def beat(page: BeatWriter, at_ns: int, section: str = "", step: int = 1) -> None:
    page.progress(step, step, page.section_index(section), at_ns, at_ns)


def look(seen: PageTrack, now_ns: int, last_look_ns: int, gaps: Gaps, halted: bool) -> bool:
    return seen.has_changed() and seen.look(now_ns, last_look_ns, gaps, halted)


def test_a_silence_belongs_to_the_section_in_which_it_was(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S, "checkpoint")
    look(seen, 1 * S, 0, gaps, halted=False)
    beat(page, 4 * S, "")
    look(seen, 4 * S, 1 * S, gaps, halted=False)
    assert gaps.longest() == pytest.approx({"checkpoint": 3.0}, abs=TICK_S)


def test_the_silence_before_the_first_record_counts_from_the_birth(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path, born_ns=1 * S)
    beat(page, 9 * S)
    assert look(seen, 9 * S, 0, gaps, halted=False), "the first record is news"
    assert gaps.longest() == pytest.approx({START_SECTION: 8.0}, abs=TICK_S)


def test_a_birth_that_nobody_saw_is_not_measured(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 9 * S)
    look(seen, 9 * S, 0, gaps, halted=False)
    assert gaps.longest() == {}


def test_a_silence_in_which_a_rank_was_stopped_is_no_measure(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S)
    look(seen, 1 * S, 0, gaps, halted=False)
    seen.taint()
    beat(page, 9 * S)
    look(seen, 9 * S, 1 * S, gaps, halted=False)
    assert gaps.longest() == {}
    beat(page, 10 * S)
    look(seen, 10 * S, 9 * S, gaps, halted=False)
    assert gaps.longest() == pytest.approx({"": 1.0}, abs=TICK_S), "the next silence is one again"


def test_records_between_two_looks_share_the_time_but_what_was_watched_counts_whole() -> None:
    assert silence_s(0, 0, 100_000_000, stores=10) == pytest.approx(0.01)
    assert silence_s(0, 3 * S, 3 * S + 100_000_000, stores=5) == pytest.approx(3.0)
    assert silence_s(0, 3 * S, 4 * S, stores=1) == pytest.approx(4.0)
    assert silence_s(5 * S, 0, 4 * S, stores=1) == 0.0


def test_a_report_without_a_new_section_is_a_sign_of_life_too(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S)
    look(seen, 1 * S, 0, gaps, halted=False)
    beat(page, 1 * S)
    look(seen, 6 * S, 5 * S, gaps, halted=False)
    assert seen.changed_ns == 6 * S


def test_long_silences_are_forgotten_after_the_window() -> None:
    gaps = Gaps()
    gaps.add("", 60.0, now_s=0.0)
    gaps.add("", 1.0, now_s=WINDOW_S + 1)
    assert gaps.longest() == {"": 60.0}, "a window is never shorter than promised"
    gaps.add("", 1.0, now_s=2 * WINDOW_S + 2)
    assert gaps.longest() == {"": 1.0}


def test_steps_move_the_window_too() -> None:
    gaps = Gaps()
    gaps.add("", 60.0, now_s=0.0)
    for _ in range(2):
        gaps.step(2001)
        gaps.add("", 1.0, now_s=1.0)
    assert gaps.longest() == {"": 1.0}


def test_nothing_new_is_seen_without_decoding(page: BeatWriter, tmp_path: Path) -> None:
    seen = track(page, tmp_path)
    beat(page, 1 * S)
    assert seen.has_changed()
    assert not seen.has_changed()
    page.failure("ValueError", "no")
    assert seen.has_changed()


def test_a_failure_stamp_is_news_once(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    page.failure("ValueError", "it broke")
    assert look(seen, 1 * S, 0, gaps, halted=False)
    assert not look(seen, 2 * S, 1 * S, gaps, halted=False)
    assert seen.failure is not None
    assert seen.failure.message == "it broke"


def test_a_committed_checkpoint_is_news_and_the_newest_counts(page: BeatWriter, tmp_path: Path) -> None:
    seen = track(page, tmp_path)
    page.event(Event.CHECKPOINT, 0)
    assert seen.look_at_events()
    assert seen.checkpoint_step == 0
    page.event(Event.CHECKPOINT, 20)
    page.event(Event.CHECKPOINT, 10)
    assert seen.look_at_events()
    assert seen.checkpoint_step == 20
    assert not seen.look_at_events()


def test_a_page_of_another_generation_is_passed_over_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.beat"
    finder = PageFinder(path, os.getuid())
    assert finder.find(2, 0, "job", None) is None
    writer(path, generation=1)
    assert finder.find(2, 0, "job", None) is None
    writer(path, generation=2)
    assert finder.find(2, 0, "job", None) is not None


def test_where_generations_do_not_tell_processes_apart_the_pid_does(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.beat"
    writer(path, generation=0, pid=7)
    assert PageFinder(path, os.getuid()).find(0, 0, "job", 8) is None
    assert PageFinder(path, os.getuid()).find(0, 0, "job", 7) is not None


def test_a_file_that_is_no_page_is_complained_of_and_not_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.beat"
    path.write_bytes(b"something else")
    finder = PageFinder(path, os.getuid())
    assert finder.find(1, 0, "job", None) is None
    assert finder.error is not None
    assert str(path) in finder.error
    finder.error = None
    assert finder.find(1, 0, "job", None) is None
    assert finder.error is None


def test_a_link_is_no_page(tmp_path: Path) -> None:
    writer(tmp_path / "real.beat")
    (tmp_path / "rank-0.beat").symlink_to(tmp_path / "real.beat")
    assert PageFinder(tmp_path / "rank-0.beat", os.getuid()).find(1, 0, "job", None) is None


def test_the_first_step_that_is_done_is_news_and_the_second_is_not(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S, step=0)
    look(seen, 1 * S, 0, gaps, halted=False)
    beat(page, 2 * S, step=1)
    assert look(seen, 2 * S, 1 * S, gaps, halted=False), "a recovery ends with it"
    beat(page, 3 * S, step=2)
    assert not look(seen, 3 * S, 2 * S, gaps, halted=False)


def test_a_word_that_is_seen_before_its_record_does_not_hide_the_record(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    path = tmp_path / "rank-0.beat"
    beat(page, 1 * S, step=1)
    look(seen, 1 * S, 0, gaps, halted=False)
    before = path.read_bytes()
    beat(page, 2 * S, step=2)
    after = path.read_bytes()
    path.write_bytes(before[: beat_now.AT] + after[beat_now.AT :])  # as copied while the record was being stored
    look(seen, 2 * S, 1 * S, gaps, halted=False)
    path.write_bytes(after)
    look(seen, 3 * S, 2 * S, gaps, halted=False)
    assert seen.progress is not None
    assert (seen.progress.step, seen.progress.steps_done) == (2, 2)
    assert 2 * S - seen.changed_ns < 1024, "nothing has changed since"
    assert gaps.longest() == pytest.approx({"": 1.0}, abs=TICK_S)


def test_a_section_entered_after_exactly_1024_others_is_news(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S)
    look(seen, 1 * S, 0, gaps, halted=False)
    for number in range(1024):
        page.enter(page.section_index("backward"), 1 * S + number * 10_000)
    look(seen, 2 * S, 1 * S, gaps, halted=False)
    assert seen.progress is not None
    assert seen.progress.section == "backward"


def test_silences_before_the_first_step_is_done_have_a_key_of_their_own(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    beat(page, 1 * S, "forward", step=0)
    look(seen, 1 * S, 0, gaps, halted=False)
    beat(page, 41 * S, "forward", step=1)
    look(seen, 41 * S, 1 * S, gaps, halted=False)
    beat(page, 42 * S, "backward", step=1)
    look(seen, 42 * S, 41 * S, gaps, halted=False)
    assert gaps.longest() == pytest.approx({FIRST_STEP: 40.0, "forward": 1.0}, abs=TICK_S)


def test_a_declared_pause_is_no_silence_of_another_section(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    for at_s, section in ((1, "forward"), (2, "(pause) evaluation"), (602, "forward"), (603, "")):
        beat(page, at_s * S, section)
        look(seen, at_s * S, (at_s - 1) * S, gaps, halted=False)
    assert gaps.longest() == pytest.approx({"forward": 1.0, "(pause) evaluation": 600.0}, abs=TICK_S)


def test_a_section_too_short_to_be_seen_is_known_by_what_a_step_spent_in_it(page: BeatWriter, tmp_path: Path) -> None:
    gaps, seen = Gaps(), track(page, tmp_path)
    page.section_index("data")
    for step in range(3):
        page.step_done(step, 1 * S, 1 * S, 0, 0, 0.0, [0.5, 0.002, 0, 0, 0, 0, 0, 0])
    page.progress(3, 3, 0, 4 * S, 4 * S)
    look(seen, 4 * S, 3 * S, gaps, halted=False)
    seen.learn_sections(gaps, 4 * S)
    assert gaps.longest() == pytest.approx({"": 0.5, "data": 0.002}, abs=TICK_S)


def test_steps_that_the_guard_has_skipped_are_told_of_once_with_their_reason(page: BeatWriter, tmp_path: Path) -> None:
    seen = track(page, tmp_path)
    page.event(Event.STEP_SKIPPED, 40, Skip.SPIKE)
    page.event(Event.STEP_SKIPPED, 41, Skip.NONFINITE)
    assert seen.look_at_events()
    assert seen.skipped == {40: False, 41: True}
    assert seen.rollback_wanted is None
    assert not seen.look_at_events()
    page.event(Event.ROLLBACK_WANTED, 40)
    assert seen.look_at_events()
    assert seen.rollback_wanted == 40


def test_only_the_newest_skipped_steps_are_kept(page: BeatWriter, tmp_path: Path) -> None:
    seen = track(page, tmp_path)
    for step in range(200):
        page.event(Event.STEP_SKIPPED, step, Skip.SPIKE)
        seen.look_at_events()
    assert list(seen.skipped) == list(range(200 - SKIPS_KEPT, 200))
