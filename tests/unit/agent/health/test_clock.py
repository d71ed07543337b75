"""The clock: what adjtimex says, and for how long."""

from __future__ import annotations

import ctypes

import pytest

from ryzen_agent.health.adjtimex import STA_NANO, STA_UNSYNC, Clock, Timex, parse_clock, read_clock, read_timex
from ryzen_agent.health.collectors.clock import ClockCollector
from ryzen_agent.health.settings import HealthSettings

GOOD = Clock(True, 0.0001, 0.0005, 0.03)


def test_an_offset_is_in_microseconds_or_as_the_status_says_in_nanoseconds() -> None:
    assert parse_clock(0x2001, -1_500_000, 250, 30_000) == (True, pytest.approx(-0.0015), 0.00025, 0.03)
    assert parse_clock(0x1, -1_500, 250, 30_000).offset_s == pytest.approx(-0.0015)
    assert not parse_clock(STA_UNSYNC | STA_NANO, 0, 0, 16_000_000).is_synchronised


def test_an_unsynchronised_clock_is_worth_a_word_and_no_more() -> None:
    collector = ClockCollector(HealthSettings(), read=lambda: Clock(False, 0.0, 16.0, 16.0))
    (said,) = collector.collect().conditions
    assert (said.name, said.severity) == ("clock.unsynchronised", "info")
    assert ClockCollector(HealthSettings(), read=lambda: GOOD).collect().conditions == ()


def test_an_offset_that_is_got_rid_of_within_ten_minutes_is_none() -> None:
    now_s, clock = 0.0, GOOD._replace(offset_s=-0.2)
    collector = ClockCollector(HealthSettings(), lambda: now_s, lambda: clock)
    assert collector.collect().conditions == ()
    now_s = 540.0
    assert collector.collect().conditions == ()
    now_s = 600.0
    (said,) = collector.collect().conditions
    assert (said.name, said.value) == ("clock.offset", -0.2)
    clock = GOOD
    assert collector.collect().conditions == ()


def test_the_structure_is_the_kernels() -> None:
    assert ctypes.sizeof(Timex) == 208, "struct timex of 64-bit Linux"
    timex = read_timex()
    assert 9_000 <= timex.tick <= 11_000, "microseconds a tick of USER_HZ, which may be slewed by a tenth"
    assert timex.tolerance == 500 << 16, "500 ppm, scaled"


def test_the_clock_of_this_very_node_can_be_read() -> None:
    clock = read_clock()
    assert abs(clock.offset_s) <= 0.5, "the kernel keeps no larger one (NTP's MAXPHASE)"
    assert 0 <= clock.error_max_s <= 16.0
