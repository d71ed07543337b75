"""Beat pages of one job: progress, failure stamps, and the longest legitimate silence of each section.

A silence is the time between two changes of a page. It is counted for the section that the page named while
it was silent; the coordinator waits longer than the longest one before it calls a job stalled. A silence
does not count when it ended in death (no change follows) or when any rank of the job on this node was
stopped meanwhile: its peers were silent because of it.

The scan sees a page four to eight times a second, so between two looks a page may have changed more than once. Then
the silence of the record seen first is known only within bounds; its estimate is the even share, but no
less than what was watched.
"""

from __future__ import annotations

from pathlib import Path

from ryzen_protos import beat_self_checks
from ryzen_protos.beat_checks import Check
from ryzen_protos.beat_now import stores_between
from ryzen_protos.beat_page import BeatPageError, BeatReader, Event, Failure, Header, Progress, Skip

START_SECTION = "(start)"
"""Key of the silence before a rank's first record of a generation: imports, process groups, restore, warm-up."""

FIRST_STEP = "(first step)"
"""Key of silences before a generation's first step is done: compilation, allocation, the first collective of all."""

PAUSE = "(pause) "
"""What the section of a pause that the script has declared begins with (`Run.pause`)."""

END_SECTION = "(end)"
"""What a page names after the last step."""

LEARN_FROM_STEP = 2
"""The first step of a generation has a figure of its own."""

SKIPS_KEPT = 16
"""Newest steps that a rank's guard has skipped: as many as are told of."""

WINDOW_S = 1800.0
WINDOW_STEPS = 2000


class Gaps:
    """Longest silence a section over the last half hour or 2000 steps (and up to twice that): two buckets."""

    def __init__(self) -> None:
        self._newer: dict[str, float] = {}
        self._older: dict[str, float] = {}
        self._since_s = 0.0
        self._steps = 0

    def add(self, section: str, gap_s: float, now_s: float) -> None:
        if not self._newer and not self._older:
            self._since_s = now_s
        if now_s - self._since_s > WINDOW_S or self._steps > WINDOW_STEPS:
            self._older, self._newer = self._newer, {}
            self._since_s, self._steps = now_s, 0
        if gap_s > self._newer.get(section, -1.0):
            self._newer[section] = gap_s

    def step(self, count: int) -> None:
        """The job has done `count` more steps."""
        self._steps += count

    def longest(self) -> dict[str, float]:
        return {
            section: max(self._newer.get(section, 0.0), self._older.get(section, 0.0))
            for section in self._newer.keys() | self._older.keys()
        }


def silence_s(last_changed_ns: int, last_look_ns: int, next_entered_ns: int, stores: int) -> float:
    """Silence of a page last seen at `last_look_ns`; `stores` followed, the newest at `next_entered_ns`."""
    whole = next_entered_ns - last_changed_ns
    estimate = whole if stores == 1 else max(last_look_ns - last_changed_ns, whole // stores)
    return max(estimate, 0) / 1e9


class PageTrack:
    """One rank's page over time."""

    def __init__(self, reader: BeatReader, born_ns: int | None) -> None:
        """`born_ns`: when the process began, None where nobody has seen how long it had no page."""
        self.reader = reader
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self.checkpoint_step: int | None = None
        self.skipped: dict[int, bool] = {}
        """Steps that the gradient guard has not done, newest last; True: a gradient was not finite."""
        self.skips = 0
        """How many there have been."""
        self.checks: tuple[Check, ...] = ()
        """Newest results of the replica check."""
        self.self_checks: dict[int, beat_self_checks.SelfCheck] = {}
        """How the checks of the rank's own arithmetic stand, by kind; once told they stay."""
        self.rollback_wanted: int | None = None
        """The guard asks to resume from a checkpoint of this step or before."""
        self.changed_ns = born_ns or 0
        self._born_ns = born_ns
        self._stamp = b""
        self._tainted = False
        self._last_event = 0
        self._rare = b""

    @property
    def header(self) -> Header:
        return self.reader.header

    def device(self) -> tuple[str, str]:
        """UUID and PCI address of the GPU that the rank computes on, "" each while that is not known."""
        return self.reader.device()

    def has_changed(self) -> bool:
        """Whether there is anything new to look at."""
        stamp = self.reader.stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return True

    def taint(self) -> None:
        """A rank of the job is stopped on this node: the present silence of this page is no measure."""
        self._tainted = True

    def look(self, now_ns: int, last_look_ns: int, gaps: Gaps, halted: bool) -> bool:
        """Take in what `has_changed` saw. True for the first record, the first step that is done, a failure stamp."""
        self._tainted |= halted
        news = False
        progress = self.reader.progress(self._stamp)
        last = self.progress
        if progress is not None and progress != last:
            news = last is None or (progress.steps_done > 0 and not last.steps_done)
            if last is not None and (progress.sequence, progress.entered_ns) == (last.sequence, last.entered_ns):
                gaps.step(max(progress.steps_done - last.steps_done, 0))  # the record of a word that was seen before it
            else:
                self._count(last, progress, now_ns, last_look_ns, gaps)
                moved = last is None or progress.entered_ns != last.entered_ns
                self.changed_ns = min(progress.entered_ns, now_ns) if moved else now_ns
                self._tainted = halted
            self.progress = progress
        if self.failure is None and (failure := self.reader.failure(self._stamp)) is not None:
            self.failure = failure
            news = True
        return news

    def look_at_events(self) -> bool:
        """Read rare events and results of checks. True where there is one to tell of at once."""
        rare = self.reader.rare()
        if rare == self._rare:
            return False
        self._rare = rare
        news = self._look_at_self_checks()
        self.checks = self.reader.checks()
        for event in self.reader.events(after=self._last_event):
            self._last_event = event.sequence
            newest = -1 if self.checkpoint_step is None else self.checkpoint_step
            if event.kind == Event.CHECKPOINT and event.step > newest:
                self.checkpoint_step = event.step
                news = True
            elif event.kind == Event.STEP_SKIPPED:
                self.skipped[event.step] = event.detail == Skip.NONFINITE
                self.skips += 1
                for old in list(self.skipped)[:-SKIPS_KEPT]:
                    del self.skipped[old]
                news = True
            elif event.kind == Event.ROLLBACK_WANTED:
                self.rollback_wanted = event.step
                news = True
        return news

    def _look_at_self_checks(self) -> bool:
        """True where one has differed that had not before."""
        found = beat_self_checks.unpack(self.reader.region(beat_self_checks.AT, beat_self_checks.BYTES))
        known = self.self_checks
        self.self_checks = {**known, **found}
        return any(each.differed and not (kind in known and known[kind].differed) for kind, each in found.items())

    def learn_sections(self, gaps: Gaps, now_ns: int) -> None:
        """Sections that are over too soon to be seen from outside are known by what the newest step spent in them.

        It is no less than the longest silence there, and where a rank enters one often not much more than all of it.
        """
        if self.progress is None or self._tainted or self.progress.steps_done < LEARN_FROM_STEP:
            return
        for name, seconds in self.reader.spent(self.progress).items():
            if not name.startswith(PAUSE):
                gaps.add(name, seconds, now_ns / 1e9)

    def _count(self, last: Progress | None, progress: Progress, now_ns: int, last_look_ns: int, gaps: Gaps) -> None:
        now_s = now_ns / 1e9
        if last is None:
            if self._born_ns is not None and not self._tainted:
                gaps.add(START_SECTION, max(progress.entered_ns - self._born_ns, 0) / 1e9, now_s)
            return
        gaps.step(max(progress.steps_done - last.steps_done, 0))
        if not self._tainted:
            stores = stores_between(last.sequence, progress.sequence)
            gap_s = silence_s(self.changed_ns, last_look_ns, progress.entered_ns, stores)
            declared = last.section.startswith(PAUSE)
            gaps.add(last.section if last.steps_done or declared else FIRST_STEP, gap_s, now_s)


class PageFinder:
    """Opens the page of one rank once it is there; a file that was refused is not opened again."""

    def __init__(self, path: Path, owner_uid: int) -> None:
        self._path = path
        self._owner_uid = owner_uid
        self._refused: tuple[int, int] = (0, 0)
        self.error: str | None = None
        """Why the file that stands there is no page of this rank, for the status; None while there is none."""

    def find(self, generation: int, local_rank: int, run_id: str, pid: int | None) -> BeatReader | None:
        """The page of that rank and generation. `pid` must match where the generation cannot tell processes apart."""
        try:
            status = self._path.lstat()
        except OSError:
            return None
        mark = (status.st_ino, status.st_ctime_ns)
        if mark == self._refused:
            return None
        self._refused = mark
        try:
            reader = BeatReader(self._path, self._owner_uid)
        except (BeatPageError, OSError) as error:
            self.error = str(error)
            return None
        header = reader.header
        fits = (header.run_id, header.generation, header.local_rank) == (run_id, generation, local_rank)
        if fits and (pid is None or header.pid == pid):
            self.error = None
            return reader
        reader.close()
        return None
