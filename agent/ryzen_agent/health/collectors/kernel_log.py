"""Follows the kernel's log: what it says of GPUs, links, memory, disks and tasks becomes events within milliseconds.

A look waits in poll(2) for the log, so it costs nothing while the log is silent. Lines that cannot matter cost one
search; equal ones are folded (`bursts`); a flood is read at a bounded share of a core (`pace`). What stands until the
log takes it back is a condition (`silences`).

How far the log has been read is kept on disk, in the look after the one whose events were taken: a killed agent tells
the events of its last second again rather than never.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Hashable

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.kernel_log import place as places
from ryzen_agent.health.kernel_log.bursts import Bursts
from ryzen_agent.health.kernel_log.finder import Finder, Seen, may_matter
from ryzen_agent.health.kernel_log.finding import Finding
from ryzen_agent.health.kernel_log.opening import open_log
from ryzen_agent.health.kernel_log.pace import Pace
from ryzen_agent.health.kernel_log.sameness import Sameness
from ryzen_agent.health.kernel_log.silences import Silences
from ryzen_agent.health.kernel_log.source import Source, wait_for
from ryzen_agent.health.model import Event, Reading, Sample
from ryzen_agent.health.settings import HealthSettings

WAIT_S = 5.0
"""Of one look at a silent log: half of the deadline."""
RETRY_S = 5.0
"""Between two tries to open a log that is not there or not permitted."""
SAVE_S, SAVE_IDLE_S = 1.0, 30.0
"""Between two notes of how far the log was read: after events, and after lines that say nothing."""

_LOST = "records of the kernel log were overwritten before they were read"

log = logging.getLogger(__name__)


class KernelLog(Collector):
    """`settings.kmsg_path`, from its opening on. `settings.state_folder` None: each start looks back."""

    name = "kernel_log"
    interval_s = 0.0

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.sources = (settings.kmsg_path,)
        self._source: Source | None = None
        self._left: places.Place | None = None
        self._was_absent = False
        self._retry_at_s = 0.0
        self._finder = Finder()
        self._bursts = Bursts()
        self._sameness = Sameness()
        self._silences = Silences()
        self._pace = Pace(time.monotonic())
        self._gpus: dict[str, str] = {}
        self._found = self._lost = self._lost_of_source = 0
        self._is_news = self._read_some = False
        self._saved: places.Place | None = None
        self._save_at_s = 0.0
        self._save_due_s = 0.0 if settings.state_folder is not None else float("inf")
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def collect(self) -> Reading:
        """Returns when the log has said something, or after `WAIT_S`. Raises NothingHereError without a log,
        PermissionError with what is missing, and OSError."""
        source = self._source or self._open()
        until_s = time.monotonic() + WAIT_S
        while True:
            self._remember(source, time.monotonic())
            self._sleep(min(self._pace.rest_s(), until_s - time.monotonic()))
            events = self._look(source)
            now_s = time.monotonic()
            if self._is_news or now_s >= until_s or self._sleep(0.0):
                return self._reading(events)
            if not self._read_some:
                source.wait(min(until_s, self._bursts.next_due_s, self._save_due_s) - now_s, self._wake)

    def interrupt(self) -> None:
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        if self._source is not None:
            self._save_due_s = 0.0
            self._remember(self._source, time.monotonic())
            self._source.close()
            self._source = None
        with self._lock:
            if self._wake >= 0:
                os.close(self._wake)
            self._wake = -1

    def _sleep(self, seconds: float) -> bool:
        """Whether somebody has interrupted, which ends it early."""
        return bool(wait_for((self._wake,), seconds))

    def _open(self) -> Source:
        self._sleep(self._retry_at_s - time.monotonic())
        self._retry_at_s = time.monotonic() + RETRY_S
        try:
            self._source = open_log(self._settings, self._left, self._was_absent)
        except FileNotFoundError as error:
            self._was_absent = True
            raise NothingHereError(f"there is no {self._settings.kmsg_path}") from error
        self._retry_at_s, self._lost_of_source, self._was_absent = 0.0, 0, False
        return self._source

    def _look(self, source: Source) -> list[Event]:
        """One batch. An error closes the log, which the next look opens again where this one has left it."""
        begin_s = time.thread_time()
        try:
            lines = source.read()
        except (OSError, NothingHereError):
            self._left, self._source = source.place(), None
            self._retry_at_s = time.monotonic() + RETRY_S
            source.close()
            raise
        now_s, now_unix_s = time.monotonic(), time.time()
        events = self._bursts.due(now_s)
        if events:
            self._sameness.forget()
        for line in lines:
            if may_matter(line):
                self._take(line, now_s, now_unix_s, events)
        self._count_lost(source, now_s, now_unix_s, events)
        self._read_some = bool(lines)
        self._is_news = self._is_news or bool(events)
        self._pace.spent(time.thread_time() - begin_s, time.monotonic())
        return events

    def _take(self, line: bytes, now_s: float, now_unix_s: float, events: list[Event]) -> None:
        known = self._sameness.burst(line)
        if known is not None and self._bursts.repeat(known, now_unix_s):
            self._found += 1
            return
        seen = self._finder.look(line, now_unix_s)
        if seen is None:
            return
        if seen.gpu is not None and self._gpus.get(seen.gpu[0]) != seen.gpu[1]:
            self._gpus[seen.gpu[0]] = seen.gpu[1]
            self._is_news = True
        if seen.finding is None:
            return
        self._found += 1
        self._is_news |= self._silences.hear(seen.finding, now_s)
        key = self._add(self._event(seen, seen.finding, now_s, now_unix_s), now_s, events)
        self._sameness.learn(seen.finding, key)

    def _count_lost(self, source: Source, now_s: float, now_unix_s: float, events: list[Event]) -> None:
        count = source.lost - self._lost_of_source
        if count:
            self._lost_of_source, self._lost = source.lost, self._lost + count
            event = Event("other", _LOST, now_unix_s, fault_class="info", action="ignore", count=count)
            self._add(event, now_s, events)

    def _add(self, event: Event, now_s: float, events: list[Event]) -> Hashable:
        key, first = self._bursts.add(event, now_s)
        if first is not None:
            events.append(first)
        return key

    def _event(self, seen: Seen, finding: Finding, now_s: float, now_unix_s: float) -> Event:
        record = seen.record
        is_stamped = record.clock == "unix" or (self._source is not None and not self._source.is_live)
        said_unix_s = record.unix_s(now_unix_s, now_s) if is_stamped else None
        return Event(
            kind=finding.kind,
            message=finding.message,
            at_unix_s=min(now_unix_s, said_unix_s if said_unix_s is not None else now_unix_s),
            code=finding.code,
            device=finding.device or self._gpus.get(finding.pci, finding.pci),
            pci=finding.pci,
            unit=finding.unit,
            fault_class=finding.fault_class,
            action=finding.action,
            pid=finding.pid,
            process=finding.process,
        )

    def _reading(self, events: list[Event]) -> Reading:
        if events:
            self._save_due_s = min(self._save_due_s, self._save_at_s)
        self._is_news = False
        return Reading(
            conditions=self._silences.conditions(time.monotonic()),
            events=tuple(events),
            samples=(
                Sample("ryzen.kernel_log.findings", float(self._found)),
                Sample("ryzen.kernel_log.lost", float(self._lost)),
            ),
            devices=tuple(self._gpus.items()),
        )

    def _remember(self, source: Source, now_s: float) -> None:
        folder = self._settings.state_folder
        if folder is None or now_s < self._save_due_s:
            return
        self._save_at_s, self._save_due_s = now_s + SAVE_S, now_s + SAVE_IDLE_S
        place = source.place()
        if place == self._saved:
            return
        self._saved = place
        try:
            places.save(folder, place)
        except OSError as error:
            log.warning("%s: %s: a restarted agent may tell old lines of the kernel log", folder, error.strerror)
