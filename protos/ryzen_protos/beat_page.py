"""The beat page: how a rank tells its node's agent that it lives, without a lock or a system call.

A page is one file of `PAGE_BYTES`, memory-mapped by the rank (writer) and by the agent (reader). It is
created whole under another name and renamed into place, so a reader never sees half a file. It outlives
the process: what a killed rank did last stays readable.

    offset  bytes  region
    0       4096   header: magic, version, length and CRC-32, then a JSON object; written once
    4096    1016   progress: two slots of one record each, written in turn
    5112       8   now: the section that is open, one word; `beat_now`
    5120     512   failure: the uncaught exception, written once
    5632    2048   section names: 64 entries, each written once before its index is used
    7680     256   device: what the rank computes on, written once when that is known; zeros in older pages
    7936     256   measures: FLOPs of a token and of a step, peak of the device, where the script says so; else zeros
    8192   23552   steps: a ring of the last 256 steps
    31744   1024   events: a ring of the last 32 rare events (a checkpoint committed, ...)
    32768   4096   sums: a ring of the last 128 gradient sums over the ranks; `beat_sums`
    36864    256   checks: a ring of the last 8 check results; `beat_checks`
    37120    256   self-checks: the standing of each check of a rank's own arithmetic; `beat_self_checks`
    40704    256   first batch: what it is known by; `beat_batch`

Every record carries its CRC-32. The writer fills the slot that does not hold the newest record, so one
whole record always stands: a reader takes the valid slot with the higher sequence number and never waits,
even for a writer that was stopped or killed in the middle of a store. Python has no memory fences; the
checksum is what makes this right on weakly ordered machines too.

The writer maps the file: a store is no system call. The reader does not: a file that another process cuts
short kills whoever touches it through a mapping (SIGBUS), and the reader may have more rights than the writer.

Times are CLOCK_MONOTONIC nanoseconds of the node. Integers are little-endian.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from ryzen_protos import beat_checks, beat_file, beat_now, beat_self_checks, beat_sums
from ryzen_protos.beat_checks import Check
from ryzen_protos.beat_file import PAGE_BYTES
from ryzen_protos.beat_records import (
    GIVEN_FLOPS,
    GIVEN_GRAD_NORM,
    GIVEN_LEARNING_RATE,
    GIVEN_LOSS,
    BeatPageError,
    Event,
    Failure,
    Header,
    Measures,
    Progress,
    RareEvent,
    Skip,
    StepMark,
    StepRecord,
    checked,
    finite_or_none,
    printable,
)

__all__ = [
    "NAMES", "PAGE_BYTES", "RING_SECTIONS", "BeatPageError", "BeatReader", "BeatWriter", "Event", "Failure",
    "Header", "Measures", "Progress", "RareEvent", "Skip", "StepMark", "StepRecord", "finite_or_none",
]  # fmt: skip

_SLOTS_AT, _SLOT_BYTES = 4096, 512
_FAILURE_AT, _FAILURE_BYTES = 5120, 512
_NAMES_AT, _NAME_BYTES, NAMES = 5632, 32, 64
_DEVICE_AT, _DEVICE_BYTES = 7680, 256
_MEASURES_AT = 7936
_STEPS_AT, _STEP_BYTES, STEPS = 8192, 92, 256
_EVENTS_AT, _EVENT_BYTES, EVENTS = 31744, 32, 32
RING_SECTIONS = 8
"""How many sections have a duration of their own in the ring of steps (the first eight that were entered)."""

_CRC = struct.Struct("<I")
_SEQUENCE = struct.Struct("<Q")
_SLOT_SEQUENCES = struct.Struct(f"<Q{_SLOT_BYTES - _SEQUENCE.size}xQ")
_PROGRESS = struct.Struct("<QQQHHQQQQQdddd")
_FAILURE = struct.Struct("<QH62sH320s")
_DEVICE = struct.Struct("<H96sH32s")
_MEASURES = struct.Struct("<4d")
_NEVER = bytes(8)
"""A failure without a time was never written: no need to add up its hundreds of bytes at each look."""

_STEP = struct.Struct("<QQQQQd8fQ")
_STEP_AND_CRC = struct.Struct(f"{_STEP.format}I")
_STEP_COUNTS = struct.Struct("<" + f"{_STEP.size - _SEQUENCE.size}xQ{_CRC.size}x" * STEPS)
"""Of the whole ring: the newest records are found before any is checked."""
_EVENT = struct.Struct("<QQQHH")
_EVENT_SEQUENCES = struct.Struct("<" + f"Q{_EVENT_BYTES - _SEQUENCE.size}x" * EVENTS)
"""Of the whole ring at once: a look finds it without news nearly always."""


class BeatWriter:
    """The rank's side. One thread writes; a call costs a microsecond and raises nothing in the loop."""

    def __init__(self, path: Path, header: Header) -> None:
        """Create the page at `path`, keeping the one that stood there as `*.previous`. Raises OSError."""
        self.header = header
        self._map = beat_file.create(path, header)
        whole = memoryview(self._map)
        self._bodies = tuple(whole[at : at + _PROGRESS.size] for at in (_SLOTS_AT, _SLOTS_AT + _SLOT_BYTES))
        whole.release()
        self._now = beat_now.Now(self._map)
        self._slot = 0
        self.enter = self._now.enter  # another section and nothing else: the cheapest store
        self._names: dict[str, int] = {}
        self._steps = 0
        self._events = self._sums = self._checks = 0
        self.section_index("")

    def section_index(self, name: str) -> int:
        """Index of `name`, entered in the table at first use. More than 64 names share index 0 ("")."""
        index = self._names.get(name)
        if index is None:
            index = len(self._names)
            if index >= NAMES:
                return 0
            raw = name.encode(errors="replace")[: _NAME_BYTES - 4].ljust(_NAME_BYTES - 4, b"\0")
            at = _NAMES_AT + index * _NAME_BYTES
            self._map[at : at + _NAME_BYTES] = _CRC.pack(crc32(raw)) + raw
            self._names[name] = index
        return index

    def progress(
        self, step: int, steps_done: int, section: int, entered_ns: int, step_started_ns: int, tokens: int = 0,
        samples: int = 0, collectives: int = 0, given: int = 0, loss: float = 0.0, grad_norm: float = 0.0,
        learning_rate: float = 0.0, flops: float = 0.0,
    ) -> None:  # fmt: skip
        """Store one record. `collectives` had been begun on the default process group when the step began.
        `given` has a bit for each of loss, gradient norm, learning rate, FLOPs in turn.

        Raises struct.error for a value that does not fit (a step below zero); the record before it stays.
        """
        sequence, slot = self._now.sequence + 1, self._slot ^ 1
        at = _SLOTS_AT + slot * _SLOT_BYTES
        _PROGRESS.pack_into(
            self._map, at, sequence, step, steps_done, section, given, entered_ns, step_started_ns,
            tokens, samples, collectives, loss, grad_norm, learning_rate, flops,
        )  # fmt: skip
        _CRC.pack_into(self._map, at + _PROGRESS.size, crc32(self._bodies[slot]))
        self._slot = slot  # only now: after a value that does not fit, the other slot still stands
        self._now.enter(section, entered_ns)

    def failure(self, error_type: str, message: str) -> None:
        """Stamp an uncaught exception."""
        kind = error_type.encode(errors="replace")[:62]
        text = message.encode(errors="replace")[:320]
        raw = _FAILURE.pack(time.monotonic_ns(), len(kind), kind, len(text), text)
        self._map[_FAILURE_AT : _FAILURE_AT + len(raw) + 4] = raw + _CRC.pack(crc32(raw))

    def device(self, uuid: str, pci: str) -> None:
        """Enter what the rank computes on: the GPU's UUID and its PCI address "0000:05:00"; either may be ""."""
        name, address = uuid.encode(errors="replace")[:96], pci.encode(errors="replace")[:32]
        raw = _DEVICE.pack(len(name), name, len(address), address)
        self._map[_DEVICE_AT : _DEVICE_AT + len(raw) + 4] = raw + _CRC.pack(crc32(raw))

    def measures(self, measures: Measures) -> None:
        """Enter what a step is worth and what the device could do."""
        raw = _MEASURES.pack(*measures)
        self._map[_MEASURES_AT : _MEASURES_AT + len(raw) + 4] = raw + _CRC.pack(crc32(raw))

    def step_done(
        self, step: int, started_ns: int, duration_ns: int, tokens: int, collectives: int, squared_lengths: float,
        sections: list[float], again: int | None = None,
    ) -> int:  # fmt: skip
        """Enter a finished step in the ring. `sections` has `RING_SECTIONS` durations in seconds; `collectives`
        had been begun on the default process group when the step began. Returns its place, and with that in `again`
        a step that is known better by now is entered once more."""
        place = self._steps if again is None else again
        raw = _STEP.pack(step, started_ns, duration_ns, tokens, collectives, squared_lengths, *sections, place)
        at = _STEPS_AT + (place % STEPS) * _STEP_BYTES
        self._map[at : at + _STEP_BYTES] = raw + _CRC.pack(crc32(raw))
        self._steps = max(self._steps, place + 1)
        return place

    def sum_done(self, started_ns: int, ended_ns: int) -> None:
        """Enter a sum of gradients over the ranks in its ring. One thread at a time, not only the loop's."""
        self._sums += 1
        beat_sums.write(self._map, self._sums, started_ns, ended_ns)

    def event(self, kind: Event, step: int, detail: int = 0) -> None:
        """Enter a rare event in its ring. `detail`: of its kind, 0 to 65535."""
        self._events += 1
        raw = _EVENT.pack(self._events, time.monotonic_ns(), step, kind, detail)
        at = _EVENTS_AT + (self._events % EVENTS) * _EVENT_BYTES
        self._map[at : at + _EVENT_BYTES] = raw + _CRC.pack(crc32(raw))

    def check(self, step: int, digest: int, group: int = 0) -> None:
        """Enter the digest of the parameters after `step` steps. Raises struct.error for what does not fit."""
        at, raw = beat_checks.pack(Check(self._checks + 1, step, digest, group, beat_checks.REPLICA))
        self._checks += 1
        self._map[at : at + len(raw)] = raw

    def put(self, at: int, raw: bytes) -> None:
        """Enter a record in a region that another module describes."""
        self._map[at : at + len(raw)] = raw

    def close(self) -> None:
        """Unmap the page; the file stays. A call after this raises ValueError."""
        self._now.release()
        for body in self._bodies:
            body.release()
        self._map.close()


class BeatReader:
    """The agent's side. Treats the file as hostile input: nothing in it can make a read fail, hang or kill."""

    def __init__(self, path: Path, owner_uid: int | None = None) -> None:
        """Open the page. Raises BeatPageError for a link, another owner, a wrong size, magic, version or header."""
        self.path = path
        self._descriptor = beat_file.open_page(path, owner_uid)
        try:
            self.header = beat_file.read_header(self._read(0, beat_file.HEADER_BYTES), path)
        except BeatPageError:
            self.close()
            raise
        self._names: dict[int, str] = {}
        self._newest: tuple[Any, ...] | None = None

    def stamp(self) -> bytes:
        """Differs whenever progress or failure do: compared before anything is decoded, for a tenth of the cost."""
        return self._read(_SLOTS_AT, _FAILURE_AT + _FAILURE_BYTES - _SLOTS_AT)

    def progress(self, stamp: bytes | None = None) -> Progress | None:
        """The newest whole record; None before the first. Never older than one returned before.

        `stamp`, where it was just taken, saves a read.
        """
        raw = b""
        for _attempt in range(3):  # both slots are torn at once only if the writer stored two records meanwhile
            raw = stamp or self._read(_SLOTS_AT, 2 * _SLOT_BYTES)
            found = self._newest_slot(raw)
            stamp = None
            if found is not None:
                if self._newest is None or found[0] > self._newest[0]:
                    self._newest = found
                break
        now = _SEQUENCE.unpack_from(raw, beat_now.AT - _SLOTS_AT)
        return self._as_progress(self._newest, *now) if self._newest is not None else None

    def failure(self, stamp: bytes | None = None) -> Failure | None:
        """The uncaught exception, once there is one. `stamp`, where it was just taken, saves a read."""
        raw, at = (stamp, _FAILURE_AT - _SLOTS_AT) if stamp else (self._read(_FAILURE_AT, _FAILURE_BYTES), 0)
        if raw.startswith(_NEVER, at) or (values := checked(_FAILURE, raw, at)) is None:
            return None
        at_ns, kind_len, kind, text_len, text = values
        return Failure(at_ns, printable(kind[:kind_len]), printable(text[:text_len]))

    def device(self) -> tuple[str, str]:
        """UUID and PCI address of the GPU that the rank computes on, as far as they are known: else "" each.

        What `attach()` was told stands in the header, where the rank itself has found nothing out yet.
        """
        raw = self._read(_DEVICE_AT, _DEVICE_BYTES)
        values = checked(_DEVICE, raw)
        if values is None or not (values[0] or values[2]):
            return self.header.device, ""
        return printable(values[1][: values[0]]), printable(values[3][: values[2]])

    def measures(self) -> Measures | None:
        """What a step is worth and what the device could do; None where the script has not said it."""
        values = checked(_MEASURES, self._read(_MEASURES_AT, _MEASURES.size + _CRC.size))
        if values is None or not all(0 <= each < math.inf for each in values):
            return None
        return Measures(*values) if any(values) else None

    def section_names(self) -> list[str]:
        """By index, as far as the table is filled."""
        names: list[str] = []
        for index in range(NAMES):
            name = self._section(index)
            if name is None:
                break
            names.append(name)
        return names

    def steps(self, last: int = STEPS) -> Iterator[StepRecord]:
        """The finished steps that the ring still holds, oldest first; only the `last` ones of them."""
        raw = self._read(_STEPS_AT, STEPS * _STEP_BYTES)
        counts = _STEP_COUNTS.unpack(raw)
        top = counts.index(max(counts))  # the others stand before it, in their order
        for back in range(min(last, STEPS))[::-1]:
            at = (top - back) % STEPS * _STEP_BYTES
            step, started_ns, duration_ns, tokens, collectives, lengths, *sections, _, crc = _STEP_AND_CRC.unpack_from(
                raw, at
            )
            if crc == crc32(raw[at : at + _STEP.size]):
                yield StepRecord(step, started_ns, duration_ns, tokens, collectives, lengths, tuple(sections))

    def marks(self, progress: Progress, last: int = 0) -> list[StepMark]:
        """Collectives that had been begun when a step began, ascending by step. `progress` as just read.

        Of the newest step and the newest multiples of 8 and of 64: ranks that are read at different moments have
        some step in common, for two small reads. With `last`: of so many last steps, as far as the ring holds them.
        """
        newest = progress.step
        running = StepMark(newest, progress.collectives)
        if last:
            done = {each.step: each.collectives for each in list(self.steps())[-last:] if each.step < newest}
            return [*(StepMark(*each) for each in sorted(done.items())), running][-last:]
        wanted = sorted({newest - newest % 64, newest - newest % 8} - {newest})
        found = [self._mark(progress, step) for step in wanted]
        return [*(mark for mark in found if mark is not None), running]

    def _mark(self, progress: Progress, step: int) -> StepMark | None:
        """Of a finished step; its place in the ring follows from the count of steps done. None where it is not there
        (overwritten, or the script's step numbers have gaps)."""
        back = progress.step - step
        if back > min(progress.steps_done, STEPS - 1):
            return None
        # After the last step of all the step that `progress` names is in the ring itself: one place on.
        for count in (progress.steps_done - back, progress.steps_done - back - 1):
            values = checked(_STEP, self._read(_STEPS_AT + count % STEPS * _STEP_BYTES, _STEP_BYTES))
            if values is not None and (values[0], values[-1]) == (step, count):
                return StepMark(step, values[4])
        return None

    def spent(self, progress: Progress) -> dict[str, float]:
        """Seconds that the newest finished step spent in each of the sections that the ring has room for."""
        count = progress.steps_done - 1
        if count < 0:
            return {}
        values = checked(_STEP, self._read(_STEPS_AT + count % STEPS * _STEP_BYTES, _STEP_BYTES))
        if values is None or values[-1] != count:
            return {}
        seconds = values[-1 - RING_SECTIONS : -1]
        spent = ((self._section(index), each) for index, each in enumerate(seconds) if 0 < each < math.inf)
        return {name: each for name, each in spent if name is not None}

    def sums(self) -> list[tuple[int, int]]:
        """When the newest sums of gradients began and ended, oldest first."""
        return beat_sums.read(self._read(beat_sums.AT, beat_sums.BYTES))

    def rare(self) -> bytes:
        """Differs whenever events, checks or self-checks do: nearly always there is nothing to decode."""
        results = beat_self_checks.AT + beat_self_checks.BYTES - beat_checks.CHECKS_AT
        return self._read(_EVENTS_AT, EVENTS * _EVENT_BYTES) + self._read(beat_checks.CHECKS_AT, results)

    def events(self, after: int = 0) -> list[RareEvent]:
        """Rare events with a sequence number above `after`, oldest first."""
        raw = self._read(_EVENTS_AT, EVENTS * _EVENT_BYTES)
        newer = [place for place, sequence in enumerate(_EVENT_SEQUENCES.unpack(raw)) if sequence > after]
        found = (checked(_EVENT, raw, place * _EVENT_BYTES) for place in newer)
        return sorted((RareEvent(*each) for each in found if each is not None), key=lambda each: each.sequence)

    def checks(self) -> tuple[Check, ...]:
        """Check results that the ring still holds, oldest first."""
        return beat_checks.unpack(self._read(beat_checks.CHECKS_AT, beat_checks.CHECKS * beat_checks.CHECK_BYTES))

    def region(self, at: int, length: int) -> bytes:
        """As it is now, of a region that another module describes."""
        return self._read(at, length)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, at: int, length: int) -> bytes:
        """A region as it is now; zeros, which no checksum fits, where the file was cut short."""
        try:
            return os.pread(self._descriptor, length, at).ljust(length, b"\0")
        except OSError:
            return bytes(length)

    def _section(self, index: int) -> str | None:
        if index not in self._names and index < NAMES:
            raw = self._read(_NAMES_AT + index * _NAME_BYTES, _NAME_BYTES)
            if _CRC.unpack_from(raw)[0] != crc32(raw[4:]):
                return None
            self._names[index] = printable(raw[4:].rstrip(b"\0"))
        return self._names.get(index)

    def _newest_slot(self, raw: bytes) -> tuple[Any, ...] | None:
        """The whole record with the higher sequence number; None where both slots are torn or empty."""
        first, second = _SLOT_SEQUENCES.unpack_from(raw)
        newer, older = (0, _SLOT_BYTES) if first > second else (_SLOT_BYTES, 0)
        return checked(_PROGRESS, raw, newer) or checked(_PROGRESS, raw, older)

    def _as_progress(self, values: tuple[Any, ...], now: int) -> Progress:
        sequence, step, done, section, given, entered, started, tokens, samples, collectives, *measured = values
        sequence, section, entered = beat_now.newest(now, sequence, section, entered)
        loss, grad_norm, learning_rate, flops = measured
        return Progress(
            sequence, step, done, self._names.get(section) or self._section(section) or "", entered, started,
            tokens, samples, collectives,
            loss if given & GIVEN_LOSS else None,
            grad_norm if given & GIVEN_GRAD_NORM else None,
            learning_rate if given & GIVEN_LEARNING_RATE else None,
            flops if given & GIVEN_FLOPS else None,
        )  # fmt: skip
