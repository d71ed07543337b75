"""Two sources that tell of one Xid are one event; one source that tells twice is two."""

from __future__ import annotations

from collections.abc import Callable

from ryzen_agent.health.model import Event
from ryzen_agent.health.pairing import HELD_S, Pairing

FULL = Event("xid", "MMU Fault", 100.0, 31, "GPU-1", "0000:05:00", "GPC 0", pid=7)
BARE = Event("xid", "Xid 31", 100.3, 31, "GPU-1")


class Sources:
    """Pairing on a clock that the test moves."""

    def __init__(self, fuller_works: bool = True) -> None:
        self.told: list[Event] = []
        self.now_s = 50.0
        self.fuller_works = fuller_works
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.pairing = Pairing(self.told.append, lambda s, call: self._due.append((self.now_s + s, call)))

    def take(self, source: str, event: Event, after_s: float = 0.0) -> None:
        self.wait(after_s)
        self.pairing.take(source, event, self.fuller_works, self.now_s)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s, call in list(self._due):
            if at_s <= self.now_s:
                self._due.remove((at_s, call))
                call()


def test_the_kernel_log_is_passed_on_at_once_and_the_driver_adds_nothing() -> None:
    sources = Sources()
    sources.take("kernel_log", FULL)
    assert sources.told == [FULL]
    sources.take("gpu", BARE, after_s=0.1)
    sources.wait(10)
    assert sources.told == [FULL]


def test_a_driver_that_is_quicker_waits_for_the_line_that_names_the_process() -> None:
    sources = Sources()
    sources.take("gpu", BARE)
    sources.take("kernel_log", FULL, after_s=HELD_S / 2)
    sources.wait(10)
    assert sources.told == [FULL]


def test_what_the_kernel_log_does_not_know_is_told_a_moment_later() -> None:
    sources = Sources()
    sources.take("gpu", BARE)
    assert sources.told == []
    sources.wait(HELD_S)
    assert sources.told == [BARE]


def test_without_a_kernel_log_nothing_is_held_back() -> None:
    sources = Sources(fuller_works=False)
    sources.take("gpu", BARE)
    assert sources.told == [BARE]


def test_one_source_that_tells_twice_means_two() -> None:
    sources = Sources()
    sources.take("kernel_log", FULL)
    sources.take("kernel_log", FULL)
    assert sources.told == [FULL, FULL]


def test_another_device_code_process_or_time_is_another_event() -> None:
    others = (
        Event("xid", "", 100.0, 31, "GPU-2"),
        Event("xid", "", 100.0, 79, "GPU-1"),
        Event("xid", "", 100.0, 31, "GPU-1", pid=8),
    )
    sources = Sources()
    sources.take("kernel_log", FULL)
    for each in others:
        sources.take("gpu", each)
    sources.take("gpu", Event("xid", "", 110.0, 31, "GPU-1"), after_s=10)
    sources.wait(10)
    assert len(sources.told) == 5


def test_a_line_whose_clock_has_drifted_is_paired_by_its_arrival() -> None:
    sources = Sources()
    sources.take("kernel_log", FULL)
    sources.take("gpu", Event("xid", "", 160.0, 31, "GPU-1"), after_s=0.2)
    sources.wait(10)
    assert sources.told == [FULL]


def test_what_is_held_back_is_not_lost_at_the_end() -> None:
    sources = Sources()
    sources.take("gpu", BARE)
    sources.pairing.flush()
    assert sources.told == [BARE]
