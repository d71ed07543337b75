"""Vital signs, from captured files of /proc and of living processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ryzen_agent import vitals
from ryzen_agent.vitals import Counters, Vitals, moved

STAT = b"3067 (py) thon) S 1 3067 3067 0 -1 4194560 58969 0 12 0 179 19 0 0 20 0 9 0 81 955744256 57017 184"
BASE = Counters(io_bytes=100, minor_faults=100, major_faults=0, switches=10, cpu_ticks=50, ready_ns=500_000_000)


def test_the_files_of_proc_are_read() -> None:
    assert vitals.parse_io(b"rchar: 51842079\nwchar: 43320\nsyscr: 1\n") == 51885399
    assert vitals.parse_switches(b"Name:\tx\nvoluntary_ctxt_switches:\t37\nnonvoluntary_ctxt_switches:\t9\n") == 37
    assert vitals.parse_faults(STAT) == (58969, 12)
    assert vitals.parse_cpu_ticks(STAT) == 198
    assert vitals.parse_schedstat(b"2000000 500 77\n") == 2000500


@pytest.mark.parametrize(
    ("change", "is_sign"),
    [
        ({}, False),
        ({"io_bytes": 101}, True),
        ({"switches": 11}, True),
        ({"major_faults": 1}, True),
        ({"minor_faults": 107}, False),
        ({"minor_faults": 108}, True),
        ({"cpu_ticks": 150, "ready_ns": 1_500_000_000}, False),
    ],
)
def test_what_is_a_sign_of_life_of_the_rank_itself(change: dict[str, int], is_sign: bool) -> None:
    assert moved(Vitals(BASE), Vitals(replace(BASE, **change))) is is_sign


@pytest.mark.parametrize(
    ("change", "is_sign"),
    [({"switches": 12}, False), ({"switches": 13}, True), ({"cpu_ticks": 51}, False), ({"cpu_ticks": 52}, True),
     ({"io_bytes": 101}, True)],
)  # fmt: skip
def test_what_is_a_sign_of_life_of_a_process_below_it(change: dict[str, int], is_sign: bool) -> None:
    assert moved(Vitals(BASE, {9: BASE}), Vitals(BASE, {9: replace(BASE, **change)})) is is_sign


def test_a_process_that_begins_or_ends_below_it_is_a_sign_of_life() -> None:
    assert moved(Vitals(BASE, {9: BASE}), Vitals(BASE))
    assert moved(Vitals(BASE), Vitals(BASE, {9: BASE}))


def test_wake_ups_of_a_poll_loop_prove_nothing() -> None:
    after = Vitals(replace(BASE, switches=12))
    assert moved(Vitals(BASE), after)
    assert not moved(Vitals(BASE), after, polls=True)


def test_a_thread_that_waits_for_a_cpu_is_busy_too() -> None:
    after = Vitals(replace(BASE, ready_ns=BASE.ready_ns + 900_000_000, cpu_ticks=60))
    assert vitals.cpu_share(Vitals(BASE), after, 1.0) == pytest.approx(0.9)
    assert vitals.cpu_share(Vitals(BASE), after, 0.0) == 0.0


def test_a_sleeping_process_shows_no_sign_and_one_that_works_shows_some() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], stdout=-1)
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; print(flush=True); "
         "subprocess.run([sys.executable, '-c', 'while True: pass'])"], stdout=-1, start_new_session=True,
    )  # fmt: skip
    try:
        for each in (sleeper, parent):
            assert each.stdout is not None
            each.stdout.readline()
        time.sleep(0.5)
        before = vitals.read(sleeper.pid)
        deadline = time.monotonic() + 30
        first = vitals.read(parent.pid)
        while not moved(first, vitals.read(parent.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not moved(before, vitals.read(sleeper.pid))
        assert before.wait_channel
    finally:
        os.killpg(parent.pid, 9)
        sleeper.kill()
        for each in (sleeper, parent):
            each.communicate()


def test_a_process_that_is_gone_is_said_to_be() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(ProcessLookupError):
        vitals.read(ended.pid)


def test_a_thread_that_works_while_the_main_thread_waits_for_it_is_a_sign_of_life() -> None:
    still = Vitals(BASE, threads={8: (5, 20)})
    assert not vitals.moved(still, Vitals(BASE, threads={8: (5, 21), 9: (1, 1)}))
    assert vitals.moved(still, Vitals(BASE, threads={8: (6, 20)})), "it has waited for something, and it came"
    assert vitals.moved(still, Vitals(BASE, threads={8: (5, 60)})), "it computes"
