"""Every form in which people keep a kernel log gives the kernel's own message, and the time that the line states."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ryzen_agent.health.kernel_log import records
from ryzen_agent.health.kernel_log.records import Record

MESSAGE = "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


@pytest.fixture(autouse=True)
def _somewhere_else_than_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


LOCAL = time.strptime("2026-11-19 10:00:00", "%Y-%m-%d %H:%M:%S")


def local_unix_s() -> float:
    return time.mktime(LOCAL)


@pytest.mark.parametrize(
    ("prefix", "time_s"),
    [
        ("6,1234,5000001,-;", 5.000001),
        ("3,1234,5000001,c,caller=T77;", 5.000001),
        ("[    5.000001] ", 5.000001),
        ("[12345.000001] ", 12345.000001),
        ("[    5.000001][ T1234] ", 5.000001),
        ("[    5.000001] [   C3] ", 5.000001),
        ("[    5.000001 <    0.000123>] ", 5.000001),
        ("<3>[    5.000001] ", 5.000001),
        ("kern  :err   : [    5.000001] ", 5.000001),
        ("[    5.000001] node-7 kernel: ", 5.000001),
    ],
)
def test_seconds_since_boot(prefix: str, time_s: float) -> None:
    record = records.parse(f"{prefix}{MESSAGE}\n".encode(), local_unix_s())
    assert record is not None
    assert (record.message, record.time_s, record.clock) == (MESSAGE, time_s, "boot")


@pytest.mark.parametrize(
    "prefix",
    [
        "[Thu Nov 19 10:00:00 2026] ",
        "Nov 19 10:00:00 node-7 kernel: ",
        "Nov 19 10:00:00.123456 node-7 kernel: ",
        "Nov 19 10:00:00 node-7 kernel: [ 5123.000001] ",
        "2026-11-19T10:00:00-0500 node-7 kernel: ",
        "2026-11-19T15:00:00+00:00 node-7 kernel: ",
        "2026-11-19T15:00:00.000000Z node-7 kernel: [ 5123.000001] ",
        "2026-11-19T10:00:00,000000-05:00 ",
        "Thu 2026-11-19 15:00:00 UTC node-7 kernel: ",
        "Thu 2026-11-19 10:00:00 EST node-7 kernel: ",
        "1795100400.000000 node-7 kernel: ",
    ],
)
def test_unix_time_where_the_line_has_a_date(prefix: str) -> None:
    record = records.parse(f"{prefix}{MESSAGE}".encode(), local_unix_s() + 60)
    assert record == Record(MESSAGE, local_unix_s(), "unix")


def test_a_date_without_a_year_is_the_last_such_day() -> None:
    january = time.mktime(time.strptime("2027-01-02 00:00:00", "%Y-%m-%d %H:%M:%S"))
    record = records.parse(f"Nov 19 10:00:00 node-7 kernel: {MESSAGE}".encode(), january)
    assert record is not None
    assert record.time_s == local_unix_s()


def test_the_journal_as_json_in_text_and_in_bytes() -> None:
    entry = {"_TRANSPORT": "kernel", "__REALTIME_TIMESTAMP": "1795100400123456", "MESSAGE": MESSAGE}
    expected = Record(MESSAGE, 1795100400.123456, "unix")
    assert records.parse(json.dumps(entry).encode(), 0.0) == expected
    assert records.parse(json.dumps(entry | {"MESSAGE": list(MESSAGE.encode())}).encode(), 0.0) == expected


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 19 10:00:00 node-7 python3[77]: {MESSAGE}",
        f"2026-11-19T10:00:00-0500 node-7 trainer: {MESSAGE}",
        json.dumps({"_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": "python3", "MESSAGE": MESSAGE}),
    ],
)
def test_what_a_program_logs_about_an_xid_is_not_the_kernels(line: str) -> None:
    assert records.parse(line.encode(), local_unix_s()) is None


@pytest.mark.parametrize(
    "line",
    [
        "[Thu Zzz 19 10:00:00 2026] ",
        "[Thu Nov 39 10:00:00 2026] ",
        "Feb 30 10:00:00 node-7 kernel: ",
        "2026-13-19T10:00:00-0500 node-7 kernel: ",
        "[Nov19 10:00] ",
        "[  +0.000123] ",
        "",
    ],
)
def test_a_time_that_is_none_leaves_the_message(line: str) -> None:
    assert records.parse(f"{line}{MESSAGE}".encode(), local_unix_s()) == Record(MESSAGE)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"\0\0", b'{"MESSAGE"', b'{"MESSAGE": {}}', b'{"MESSAGE": [1, 999]}', b'{"MESSAGE":' + b"[" * 9000],
)
def test_what_is_no_line_is_no_record(line: bytes) -> None:
    assert records.parse(line, 0.0) is None


def test_escapes_of_the_device_are_undone() -> None:
    record = records.parse(rb"6,7,8,-;one\x0atwo \xc3\xa9 \x5c done", 0.0)
    assert record is not None
    assert record.message == "one\ntwo é \\ done"
    assert record.seq == 7


def test_when_something_happened_is_unknown_where_the_uptime_is_another_boots() -> None:
    assert Record("x", 50.0, "boot").unix_s(1000.0, uptime_s=60.0) == 990.0
    assert Record("x", 5000.0, "boot").unix_s(1000.0, uptime_s=60.0) is None
    assert Record("x", 5000.0, "unix").unix_s(1000.0, uptime_s=60.0) == 5000.0
    assert Record("x").unix_s(1000.0, uptime_s=60.0) is None
