"""What the kernel thinks of its clock: adjtimex(2) without a change, which any user may call.

Python has no call for it. The structure is the one of 64-bit Linux, in <sys/timex.h>.
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

STA_UNSYNC = 0x0040
STA_NANO = 0x2000
_LONGS = (
    "offset", "freq", "maxerror", "esterror", "status", "constant", "precision", "tolerance", "seconds",
    "microseconds", "tick", "ppsfreq", "jitter", "shift", "stabil", "jitcnt", "calcnt", "errcnt", "stbcnt", "tai",
)  # fmt: skip
_INTS = frozenset({"status", "shift", "tai"})


class Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_int if name in _INTS else ctypes.c_long) for name in _LONGS),
        ("reserved", ctypes.c_int * 11),
    )


class Clock(NamedTuple):
    """Seconds. `error_max_s` is a bound that grows by itself while nobody disciplines the clock, up to 16 s."""

    is_synchronised: bool
    offset_s: float
    error_s: float
    error_max_s: float


def parse_clock(status: int, offset: int, esterror: int, maxerror: int) -> Clock:
    """The offset is in microseconds, in nanoseconds where the status says so; the errors in microseconds."""
    unit = 1e-9 if status & STA_NANO else 1e-6
    return Clock(not status & STA_UNSYNC, offset * unit, esterror * 1e-6, maxerror * 1e-6)


def read_timex() -> Timex:
    """Raises OSError (a sandbox may forbid the call)."""
    timex = Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "adjtimex")
    return timex


def read_clock() -> Clock:
    """Raises OSError as `read_timex` does."""
    timex = read_timex()
    return parse_clock(timex.status, timex.offset, timex.esterror, timex.maxerror)
