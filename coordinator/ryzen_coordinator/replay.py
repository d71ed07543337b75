"""`ryzen-coordinator replay`: the recorded calls once more, through a fresh core, and what comes of them compared.

Each segment is run from its own beginning, so that the oldest ones can be missing. Where a segment goes on from the one
before, the state that it begins with must also be the one that the replay has arrived at: a difference that has not
led to another decision yet shows there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Effect, Say
from ryzen_coordinator.inputs import entries, kept, reader
from ryzen_coordinator.inputs.entries import Recorded, Update
from ryzen_coordinator.inputs.found import Decision, Difference, Replayed, Window, parts
from ryzen_coordinator.inputs.frames import DamageError
from ryzen_coordinator.inputs.reader import Segment
from ryzen_coordinator.server import convert

_LATE_S = 1.0
"""A decision from before a segment may be committed so long after the segment has begun."""


def replay(journal: Path, window: Window | None = None) -> Replayed:
    """Run everything that is recorded beside `journal` (or in one segment). Raises ReplayError.

    The whole log of a journal is also compared with the decisions that the journal itself holds.
    """
    running = _Replay(window or Window())
    found = running.run(reader.find(journal))
    if window in {None, Window()} and journal.is_file() and reader.folder_of(journal).is_dir():
        kept.compare(journal, running.log, found)
    return found


class _Replay:
    def __init__(self, window: Window) -> None:
        self._window = window
        self._found = Replayed()
        self._core: Core | None = None  # where the segment before has arrived
        self._before: Segment | None = None
        self._empty: Path | None = None  # the segment before, if not even its header is there
        self._session = ""
        self.log = kept.Log()

    def run(self, paths: Sequence[Path]) -> Replayed:
        for path, following in zip(paths, [*paths[1:], None], strict=True):
            segment = reader.read(path)
            if segment is None:
                self._warn_torn(path, 0)
                self._before, self._core, self._empty = None, None, path
                continue
            if segment.header["unix_s"] > self._window.until_s:
                break
            self._check_order(segment)
            if self._before_window(following):
                self._core = None
                self._check_end(segment)
            else:
                self._segment(segment)
            if segment.ended == "stopped":
                self.log.stopped.add(segment.session)
            self._before, self._empty = segment, None
        return self._found

    def _before_window(self, following: Path | None) -> bool:
        if following is None or self._window.from_s == float("-inf"):
            return False
        after = reader.read(following)
        return after is not None and after.header["unix_s"] < self._window.from_s

    def _check_order(self, segment: Segment) -> None:
        """A segment that goes on must go on from a whole one. Raises DamageError."""
        before = self._before
        if not segment.continues:
            return
        if self._empty is not None:
            raise DamageError(f"{self._empty}: damaged at offset 0: its header is not whole")
        if before is None:  # older ones have been removed
            return
        if (before.session, before.index + 1) != (segment.session, segment.index):
            raise DamageError(f"{segment.path}: goes on from a segment that is missing")
        if before.ended != "continued":
            end = before.torn_at if before.torn_at is not None else before.path.stat().st_size
            raise DamageError(f"{before.path}: damaged at offset {end}: it ends there, but {segment.path.name} goes on")

    def _check_end(self, segment: Segment) -> None:
        for _ in segment.calls():
            pass
        if segment.torn_at is not None:
            self._warn_torn(segment.path, segment.torn_at)

    def _warn_torn(self, path: Path, offset: int) -> None:
        self._found.warnings.append(f"{path}: cut at offset {offset}: the rest is not whole (killed, or at work)")

    def _segment(self, segment: Segment) -> None:
        found = self._found
        core = segment.core()
        if segment.continues and self._core is not None:
            self._compare_states(segment, self._core, core)
        if segment.session != self._session:
            self._session = segment.session
            found.sessions += 1
        found.segments += 1
        begins_s = segment.header["unix_s"]
        if self._core is None or not segment.continues:
            since_s = found.until_unix_s if found.until_unix_s is not None else float("-inf")
            self.log.unlogged.append((since_s, begins_s + (_LATE_S if segment.index else 0.0)))
        for offset, number, call in segment.calls():
            unix_s = call.now_s + core.cluster.unix_offset_s
            if unix_s > self._window.until_s:
                return  # whatever follows is later still
            effects = _run(core, call)
            self._note(unix_s, effects)
            before = _decoded(segment, offset, call)
            if not isinstance(before, str):
                self.log.add(segment.session, unix_s, before)
            recorded, now = entries.comparable(before), entries.comparable(effects)
            if recorded != now:
                cause = _cause(call)
                self._found.differs(Difference(str(segment.path), offset, number, unix_s, cause, *parts(recorded, now)))
        if segment.torn_at is not None:
            self._warn_torn(segment.path, segment.torn_at)
        self._core = core

    def _compare_states(self, segment: Segment, arrived: Core, begins: Core) -> None:
        if snapshot.encode(vars(begins)) == snapshot.encode(vars(arrived)):
            return
        # What was shared may differ where what is meant does not.
        one, other = (snapshot.encode(vars(core), share=False) for core in (begins, arrived))
        if one != other:
            unix_s = begins.cluster.now_s + begins.cluster.unix_offset_s
            what = "the state that it begins with"
            self._found.differs(Difference(str(segment.path), 0, 0, unix_s, what, *parts([one], [other])))

    def _note(self, unix_s: float, effects: Sequence[Effect] | str) -> None:
        found = self._found
        found.calls += 1
        found.effects += 0 if isinstance(effects, str) else len(effects)
        found.from_unix_s = found.from_unix_s if found.from_unix_s is not None else unix_s
        found.until_unix_s = unix_s
        if isinstance(effects, str) or unix_s < self._window.from_s:
            return
        for effect in effects:
            if isinstance(effect, Say):
                found.decisions.append(Decision(unix_s, effect.level, effect.text, dict(effect.fields)))


def _run(core: Core, call: Recorded) -> list[Effect] | str:
    try:
        cause = call.cause
        if cause is None:
            return core.tick(call.now_s)
        if isinstance(cause, Update):
            cause = convert.report(*cause)
        return core.step(cause, call.now_s)
    except Exception as error:  # noqa: BLE001 - whatever it is, the recorded call must have raised the same
        return entries.raised(error)


def _decoded(segment: Segment, offset: int, call: Recorded) -> list[Effect] | str:
    """The effects as they were recorded. Raises DamageError."""
    try:
        return snapshot.decode(call.effects) if call.effects and not isinstance(call.effects, str) else call.effects
    except snapshot.SnapshotError as error:
        raise DamageError(f"{segment.path}: damaged at offset {offset}: {error}") from None


def _cause(call: Recorded) -> str:
    cause = call.cause
    if cause is None:
        return "tick"
    if isinstance(cause, Update):
        return f"update {cause.message.seq} of {cause.node}"
    return f"{type(cause).__name__} {cause.node}"
