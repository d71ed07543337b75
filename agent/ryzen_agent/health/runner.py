"""Runs one collector in a thread of its own, and tells the event loop what each look has seen.

    collect() -> a Reading           it replaces what the look before said
              -> NothingHereError    nothing of this kind here: healthy, asked again rarely or when a source appears
              -> any other error     a failed look: counted, said once a message, tried again; what stood stands
              -> does not return     a driver or a dead file system holds the thread: `late_s` grows, nothing waits

A look that says what the one before said, but for measured values, does not wake the loop: `check` takes it in.
The thread is a daemon, so that one that is held for ever does not keep the agent from its end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.model import Condition, Reading, Sample

ABSENT_S = 300.0
"""Between two looks for something that is not here. Lower wakes an idle thread for nothing; higher finds a driver that
was loaded late, and of which no source is known, so much later."""
SOURCES_S = 10.0
"""Between two looks for the sources of an absent collector: one `stat` each."""
FAILED_S = 5.0
"""Least time after a failed look: an error that comes at once must not become a busy loop."""
MESSAGE_CHARS = 200
SAID_MAX = 100
"""Different errors that are logged; a text that holds a counter must not fill log and memory."""

NOTHING = Reading()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """How one `collect` ended. `failure`: why it saw nothing; `absent`: what is not here, a healthy end."""

    took_s: float
    reading: Reading | None = None
    failure: str = ""
    absent: str = ""

    def repeats(self, before: Look | None) -> bool:
        """Whether nothing but measured values may be new."""
        if before is None or before.reading is None or self.reading is None:
            return False
        return self.reading == dataclasses.replace(before.reading, events=(), samples=self.reading.samples)


class Runner:
    """See the module's header. Everything but `_run` and what it calls belongs to the event loop's thread.

    `told` is called there with each reading, at once where it is news, and with None once the thread has ended.
    """

    def __init__(
        self, collector: Collector, loop: asyncio.AbstractEventLoop, told: Callable[[Runner, Reading | None], None]
    ) -> None:
        self.collector = collector
        self.name = collector.name
        self.failures = 0
        """Looks in a row that failed."""
        self.failures_ever = 0
        self.gone = False
        self._loop = loop
        self._told = told
        self._last: Look | None = None
        self._looks: deque[Look] = deque()
        """That the loop has not taken in yet."""
        self._standing = NOTHING
        self._said: set[str] = set()
        self._was_late = False
        self._began_s: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"health-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further look; one that waits for something is interrupted. Does not wait for it."""
        self._stopping.set()
        if self._thread.is_alive() and (why := self._contained(self.collector.interrupt)):
            log.warning("collector %s cannot be interrupted: %s", self.name, why)

    def check(self, now_s: float) -> bool:
        """Once a second. True where it has become late, or is not any more."""
        self._take_in()
        late_s = self.late_s(now_s)
        if bool(late_s) == self._was_late:
            return False
        self._was_late = bool(late_s)
        log.warning("collector %s %s", self.name, _late(late_s) if late_s else "answers again")
        return True

    def late_s(self, now_s: float) -> float:
        """For how long the look that runs has been running, once that is beyond its deadline; else 0."""
        began_s = self._began_s
        running_s = 0.0 if began_s is None else now_s - began_s
        return running_s if running_s > self.collector.deadline_s else 0.0

    @property
    def works(self) -> bool:
        """Whether its newest look has seen something."""
        return self._last is not None and self._last.reading is not None

    def conditions(self, now_s: float) -> list[Condition]:
        """What it says stands, and that it does not answer where it does not."""
        if not (late_s := self.late_s(now_s)):
            return list(self._standing.conditions)
        stalled = Condition("collector.stalled", f"collector {self.name} {_late(late_s)}", self.name, value=late_s)
        return [*self._standing.conditions, stalled]

    def samples(self, now_s: float) -> list[Sample]:
        """The newest measurements; none where the newest look did not come back with any: they would be stale."""
        late_s = self.late_s(now_s)
        if self._last is None and not late_s:
            return []
        look = self._last or Look(late_s)
        who = (("ryzen.collector", self.name),)
        fresh = self._standing.samples if self.works and not late_s else ()
        success = 0.0 if late_s or look.failure else 1.0
        took = Sample("ryzen.collector.duration", late_s or look.took_s, who)
        return [*fresh, Sample("ryzen.collector.success", success, who), took]

    def complaint(self, now_s: float) -> str:
        """What does not work, in words; empty where all is well."""
        if late_s := self.late_s(now_s):
            return f"collector {self.name} {_late(late_s)}"
        if self._last is not None and self._last.failure:
            times = f", {self.failures} times in a row" if self.failures > 1 else ""
            return f"collector {self.name} cannot look{times}: {self._last.failure}"
        return ""

    # ------------------------------------------------------------- the event loop hears

    def _take_in(self) -> None:
        while self._looks:
            self._ended(self._looks.popleft())

    def _ended(self, look: Look) -> None:
        self._last = look
        if look.failure:
            self.failures += 1
            self.failures_ever += 1
            if look.failure not in self._said and len(self._said) < SAID_MAX:
                self._said.add(look.failure)
                log.warning("collector %s cannot look: %s", self.name, look.failure)
            return
        self.failures = 0
        self._standing = look.reading or NOTHING
        self._told(self, self._standing)

    def _has_gone(self) -> None:
        self.gone = True
        self._told(self, None)

    # ------------------------------------------------------------- the collector's thread

    def _run(self) -> None:
        before = None
        try:
            while not self._stopping.is_set():
                began_s = self._began_s = time.monotonic()
                look = self._look(began_s)
                self._began_s = None
                self._looks.append(look)
                if not look.repeats(before):
                    self._loop.call_soon_threadsafe(self._take_in)
                before = look
                self._rest(look, began_s)
            if why := self._contained(self.collector.close):
                log.warning("collector %s cannot be closed: %s", self.name, why)
            self._loop.call_soon_threadsafe(self._has_gone)
        except RuntimeError:  # the loop is closed: it came back after the agent's end
            return

    def _look(self, began_s: float) -> Look:
        reading: list[Reading] = []

        def collect() -> None:
            reading.append(self.collector.collect())

        try:
            failure = self._contained(collect)
        except NothingHereError as error:
            return Look(time.monotonic() - began_s, absent=_one_line(error) or "nothing")
        return Look(time.monotonic() - began_s, reading[0] if reading else None, failure)

    def _contained(self, call: Callable[[], None]) -> str:
        """What it raised, in one line.

        The one broad `except` of the agent: a collector parses what kernels, drivers and vendors' libraries say, each
        with errors of its own, and no surprise in one of them may end the others or the agent. None is swallowed: it
        is counted, logged, in the status and a metric.
        """
        try:
            call()
        except NothingHereError:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            return f"{type(error).__name__}: {_one_line(error)}".removesuffix(": ")
        return ""

    def _rest(self, look: Look, began_s: float) -> None:
        """Until the next look is due."""
        if look.absent:
            self._wait_for_sources()
            return
        least_s = FAILED_S if look.failure else 0.0
        left_s = began_s + max(self.collector.interval_s, least_s) - time.monotonic()
        if left_s > 0:
            self._stopping.wait(left_s)

    def _wait_for_sources(self) -> None:
        sources = self.collector.sources
        there = [each for each in sources if each.exists()]
        until_s = time.monotonic() + ABSENT_S
        while (left_s := until_s - time.monotonic()) > 0:
            if self._stopping.wait(min(left_s, SOURCES_S) if sources else left_s):
                return
            if [each for each in sources if each.exists()] != there:
                return


def _late(late_s: float) -> str:
    return f"has not answered for {late_s:.0f} s"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARS]
