"""One line of a kernel log, in any form that people keep -> the kernel's message and when it was said.

    6,1234,5000000,-;message                            /dev/kmsg itself (Documentation/ABI/testing/dev-kmsg)
    [  123.456789] message                              dmesg; with "<4>" (-r), "kern  :err   : " (-x), "[T123]"
    [Thu Nov 19 10:00:00 2026] message                  dmesg -T
    2026-11-19T10:00:00,123456+01:00 message            dmesg --time-format iso
    Nov 19 10:00:00 host kernel: message                journal, syslog; with "[  123.456]" as rsyslog keeps it
    2026-11-19T10:00:00+0100 host kernel: message       journal, short-iso and rsyslog
    Thu 2026-11-19 10:00:00 UTC host kernel: message    journal, short-full
    1795082400.123456 host kernel: message              journal, short-unix
    [  123.456789] host kernel: message                 journal, short-monotonic
    {"MESSAGE": "message", ...}                         journal, json
    message                                             anything else

Lines of a journal that are not the kernel's are no records: a program that logs about an Xid is not one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, NamedTuple

Clock = Literal["boot", "unix"]

LINE_BYTES = 8192
"""Of a line that is looked at. The kernel's own limit is below (PRINTKRB_RECORD_MAX 1024 and its prefix)."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK_LEAD = timedelta(days=1)

_RAW = re.compile(r"\d{1,6},(?P<seq>\d{1,20}),(?P<usec>\d{1,20}),[^;]{0,200};(?P<message>.*)", re.DOTALL)
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_LEVEL = re.compile(r"<\d{1,6}>")
_DECODED_LEVEL = re.compile(r"[a-z0-9]{3,8} {0,6}:[a-z]{3,6} {0,6}: ?(?=\[)")
_BOOT = re.compile(
    r"\[ {0,12}(?P<seconds>\d{1,12}\.\d{1,9})(?: <[ .\d]{1,20}>)?\](?: ?\[ {0,8}[TC]\d{1,10}\])? ?(?P<message>.*)",
    re.DOTALL,
)
_CTIME = re.compile(
    r"\[[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) (?P<clock>\d\d:\d\d:\d\d) (?P<year>\d{4})\]"
    r" ?(?P<message>.*)",
    re.DOTALL,
)
_RELATIVE = re.compile(
    r"\[(?:[A-Z][a-z]{2} {0,2}\d{1,2} \d\d:\d\d| {0,12}\+\d{1,9}\.\d{1,9})\] ?(?P<message>.*)", re.DOTALL
)
_DMESG_ISO = re.compile(
    r"(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{1,9}(?:Z|[+-]\d\d:?\d\d)?) (?P<message>.*)", re.DOTALL
)
_SYSLOG = re.compile(
    r"(?:(?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) (?P<clock>\d\d:\d\d:\d\d)(?:\.\d{1,9})?"
    r"|(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"
    r"|[A-Z][a-z]{2} (?P<full>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,9})?) (?P<zone>[A-Za-z0-9+:-]{1,8})"
    r"|(?P<unix>\d{9,11}\.\d{1,9}))"
    r" \S{1,255} (?P<program>[^\s:\[]{1,64})(?:\[\d{1,10}\])?: (?P<message>.*)",
    re.DOTALL,
)
_HOST = re.compile(r"\S{1,255} kernel: (?P<message>.*)", re.DOTALL)
KERNEL = "kernel"


class Record(NamedTuple):
    """`time_s`: as the line says, by `clock`: seconds since boot or Unix time; None where it says none."""

    message: str
    time_s: float | None = None
    clock: Clock | None = None
    seq: int | None = None

    def unix_s(self, now_unix_s: float, uptime_s: float) -> float | None:
        """When it was said; None where that is unknown, or the uptime is another boot's. `uptime_s` is CLOCK_MONOTONIC:
        the kernel stamps messages with its scheduler's clock, which drifts from that one by seconds in a day."""
        if self.time_s is None or self.clock == "unix":
            return self.time_s
        return now_unix_s - uptime_s + self.time_s if self.time_s <= uptime_s + 1 else None


def parse(line: bytes, now_unix_s: float) -> Record | None:
    """One line without its newline. None where it is empty or somebody else's. `now_unix_s` gives syslog its year."""
    text = line[:LINE_BYTES].decode(errors="replace").strip("\r\n\0 \t")
    if not text:
        return None
    if text.startswith("{") and '"MESSAGE"' in text:
        return _json(text)
    if (found := _RAW.match(text)) is not None:
        return Record(_unescaped(found["message"]), int(found["usec"]) / 1e6, "boot", int(found["seq"]))
    if (found := _SYSLOG.match(text)) is not None:
        return _syslog(found, now_unix_s) if found["program"] == KERNEL else None
    if (found := _LEVEL.match(text) or _DECODED_LEVEL.match(text)) is not None:
        text = text[found.end() :]
    return _dmesg(text)


def _dmesg(text: str) -> Record:
    if (found := _BOOT.match(text)) is not None:
        message = found["message"]
        of_host = _HOST.match(message)
        return Record(of_host["message"] if of_host else message, float(found["seconds"]), "boot")
    if (found := _CTIME.match(text)) is not None:
        return _at(found["message"], partial(_local, int(found["year"]), found["month"], found["day"], found["clock"]))
    if (found := _DMESG_ISO.match(text)) is not None:
        return _at(found["message"], partial(datetime.fromisoformat, found["iso"]))
    if (found := _RELATIVE.match(text)) is not None:
        return Record(found["message"])
    return Record(text)


def _syslog(found: re.Match[str], now_unix_s: float) -> Record:
    message = found["message"]
    inner = _BOOT.match(message)
    message = inner["message"] if inner else message
    if found["unix"]:
        return Record(message, float(found["unix"]), "unix")
    if found["iso"]:
        return _at(message, partial(datetime.fromisoformat, found["iso"]))
    if found["full"]:
        return _at(message, partial(datetime.fromisoformat, found["full"] + ("Z" if found["zone"] == "UTC" else "")))
    return _at(message, partial(_within_a_year, found, now_unix_s))


def _at(message: str, when: Callable[[], datetime]) -> Record:
    """A time without a zone is this machine's; one that no calendar has is none."""
    try:
        return Record(message, when().timestamp(), "unix")
    except (ValueError, OverflowError, OSError):
        return Record(message)


def _within_a_year(found: re.Match[str], now_unix_s: float) -> datetime:
    """Syslog leaves the year out: this one, or the one before where that would be in the future."""
    now = datetime.fromtimestamp(now_unix_s)
    when = _local(now.year, found["month"], found["day"], found["clock"])
    if when > now + _CLOCK_LEAD:
        return _local(now.year - 1, found["month"], found["day"], found["clock"])
    return when


def _local(year: int, month: str, day: str, clock: str) -> datetime:
    hour, minute, second = (int(each) for each in clock.split(":"))
    return datetime(year, _MONTHS.index(month) + 1, int(day), hour, minute, second)


def _json(text: str) -> Record | None:
    """journalctl's: times in microseconds as strings, a message that is not UTF-8 as a list of bytes."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if entry.get("_TRANSPORT", KERNEL) != KERNEL or entry.get("SYSLOG_IDENTIFIER", KERNEL) != KERNEL:
        return None
    message, stamp = entry.get("MESSAGE"), entry.get("__REALTIME_TIMESTAMP")
    if isinstance(message, list) and all(isinstance(each, int) and 0 <= each < 256 for each in message):
        message = bytes(message).decode(errors="replace")
    if not isinstance(message, str):
        return None
    known = isinstance(stamp, str) and stamp.isascii() and stamp.isdigit() and len(stamp) <= 20
    return Record(message, int(stamp) / 1e6, "unix") if known else Record(message)


def _unescaped(message: str) -> str:
    r"""/dev/kmsg writes control and non-ASCII bytes, and the newlines within a message, as \xHH."""
    if "\\x" not in message:
        return message
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), message.encode()).decode(errors="replace")
