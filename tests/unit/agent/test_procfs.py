"""Parsers of /proc, on text as kernels write it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ryzen_agent import procfs

STAT = (
    b"31337 (python (a) b) T 4000 31337 2578 0 -1 4228108 77 0 0 0 0 0 0 0 20 0 1 0 123456789 0 0 "
    b"18446744073709551615 0 0 0 0 0 0 0 0 0 1 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9\n"
)


def test_a_command_name_with_parentheses_and_spaces_does_not_shift_the_fields() -> None:
    stat = procfs.parse_stat(STAT)
    assert (stat.pid, stat.state, stat.parent, stat.group, stat.start_ticks) == (31337, "T", 4000, 31337, 123456789)
    assert procfs.state_letter(STAT) == "T"


def test_the_wait_status_of_a_zombie_is_the_last_field() -> None:
    assert os.waitstatus_to_exitcode(procfs.parse_stat(STAT).wait_status) == -9


def test_a_thread_on_its_way_out_is_exiting_before_it_is_a_zombie() -> None:
    living = STAT.replace(b"4228108", b"4194304")
    assert not procfs.parse_stat(living).exiting
    assert procfs.parse_stat(STAT).exiting


@pytest.mark.parametrize(
    ("pending", "expected"),
    [
        (b"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", True),
        (b"SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n", True),
        (b"SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\nSigCgt:\t0000000000000100\n", False),
    ],
)
def test_a_pending_sigkill_is_seen_in_either_mask_and_a_sigterm_is_none(pending: bytes, expected: bool) -> None:
    assert procfs.kill_pending(b"Name:\tpython\n" + pending) is expected


def test_a_killed_process_is_dying_and_a_living_one_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not procfs.is_dying(child.pid)
    child.kill()
    assert procfs.is_dying(child.pid)
    child.wait()
    assert procfs.is_dying(child.pid)


def test_environment_with_rubbish_in_it() -> None:
    assert procfs.parse_environ(b"RANK=3\0no equals\0A=b=c\0\0") == {"RANK": "3", "A": "b=c"}
    assert procfs.parse_environ(b"") == {}


def test_children_are_numbers_between_spaces() -> None:
    assert procfs.parse_pids(b"12 345 6 ") == [12, 345, 6]
    assert procfs.parse_pids(b"") == []


def test_this_process_is_alive_under_its_own_start_time_only() -> None:
    ticks = procfs.read_stat(os.getpid()).start_ticks
    assert procfs.is_alive(os.getpid(), ticks)
    assert not procfs.is_alive(os.getpid(), ticks + 1)


def test_a_process_that_is_gone_is_an_error_that_says_so() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        procfs.read_stat(child.pid)
    assert procfs.read_environ(child.pid) == {}
    assert procfs.children_of(child.pid) == []
    assert procfs.owner_of(child.pid) is None


THREADS_WITH_CHILDREN = """
import os, sys, threading
begun, hold = os.pipe()
def start(children):
    for _ in range(children):
        if not os.fork():
            os.close(hold)
            os.read(begun, 1)  # until this process is gone
            os._exit(0)
done = threading.Event()
def start_and_stay():
    start(1)
    ready.set()
    done.wait()
ready = threading.Event()
start(900)
threading.Thread(target=start_and_stay, daemon=True).start()
ready.wait()
print("ready", flush=True)
sys.stdin.read()
"""


def test_more_children_than_fit_in_one_page_of_proc_are_found_and_those_of_other_threads_too() -> None:
    command = [sys.executable, "-c", THREADS_WITH_CHILDREN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = procfs.children_of(parent.pid)
        assert len(set(children)) == 901
        assert all(procfs.read_stat(each).parent == parent.pid for each in children)
        parent.kill()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    ticks = procfs.read_stat(child.pid).start_ticks
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not procfs.is_alive(child.pid, ticks)
    child.wait()
