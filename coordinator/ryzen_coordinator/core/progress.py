"""Progress of the ranks of one generation, in arrays: looking at 131,072 ranks is one vectorised pass.

The index is the global rank. Times are core time: an observation "quiet for 0.4 s" that arrives at 100.0 becomes
"changed at 99.6", so nothing has to be counted up afterwards and a silent node's figures simply stay.

Agents report once a second, so a rank that seems silent since 0.9 s may have stepped many times. What a silence is
known to be ends at the last report (`seen_s`); only a process that is stopped is silent until it is heard again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ryzen_coordinator.core.events import Beats, RankSeen
from ryzen_coordinator.core.gaps import END, FIRST_STEP, PAUSE, START, Gaps
from ryzen_coordinator.core.settings import CoreSettings

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_STOPPED, _ZOMBIE = "T", "Z"
"""Not "t": a tracing stop is a person with a debugger, who would not want the rank killed."""

_ZOMBIE_S = 30.0
"""A rank whose main thread has ended is on its way out; with gigabytes and a device to give back that takes seconds."""

NEVER = -np.inf
SECTIONS_MAX = 1024
"""A job that makes up new section names for ever shares the first one's limit from here on."""

_HALTED = frozenset("TtZ")

_SAMPLE_S = 0.25
"""py-spy stops a process for 15-90 ms (measured)."""


@dataclass(slots=True)
class Sweep:
    """One look at all ranks: which are frozen for too long, and whether every rank is silent for too long."""

    frozen: tuple[int, ...]
    looked: int
    all_silent: bool
    quiet_s: float
    limit_s: float


@dataclass(slots=True)
class ProgressTable:
    """Arrays by global rank. Unseen ranks are neither alive nor ended.

    `taken`: what each node said last of its processes, so that only what differs is taken in again.
    """

    generation: int
    nodes: list[str]
    sections: list[str] = field(default_factory=lambda: [START])
    taken: dict[str, tuple[RankSeen, ...]] = field(default_factory=dict)
    node_index: dict[str, int] = field(init=False)
    section_index: dict[str, int] = field(init=False)
    alive: Flags = field(init=False)
    ended: Flags = field(init=False)
    attached: Flags = field(init=False)
    node: Integers = field(init=False)
    pid: Integers = field(init=False)
    step: Integers = field(init=False)
    steps_done: Integers = field(init=False)
    section: Integers = field(init=False)
    seen_s: Floats = field(init=False)
    changed_s: Floats = field(init=False)
    born_s: Floats = field(init=False)
    began_s: Floats = field(init=False)
    frozen_since_s: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.node_index = {name: index for index, name in enumerate(self.nodes)}
        self.section_index = {name: index for index, name in enumerate(self.sections)}
        for name, kind, empty in _COLUMNS:
            setattr(self, name, np.full(0, empty, dtype=kind))

    def reserve(self, ranks: int) -> None:
        """Make room for ranks 0 .. ranks-1."""
        more = ranks - len(self.alive)
        if more <= 0:
            return
        for name, kind, empty in _COLUMNS:
            setattr(self, name, np.concatenate([getattr(self, name), np.full(more, empty, dtype=kind)]))

    def observe(self, node: str, ranks: tuple[RankSeen, ...], beats: Beats, now_s: float) -> None:
        """Take in what a node says of its ranks; those of other generations are passed over."""
        if self.taken.get(node) != ranks:
            for each in ranks:
                if each.generation == self.generation:
                    self._take_process(node, each, now_s)
            if not any(each.process_state in _HALTED for each in ranks):  # how long they halt counts on
                self.taken[node] = ranks
            else:
                self.taken.pop(node, None)
        self._take_beats(ranks, beats, now_s)

    def _take_process(self, node: str, seen: RankSeen, now_s: float) -> None:
        rank = seen.rank
        self.reserve(rank + 1)
        was_alive = bool(self.alive[rank])
        self.node[rank] = self._node_index(node)
        self.alive[rank] = seen.life != "exited"
        self.ended[rank] = seen.life == "exited"
        self.attached[rank] = seen.attached
        if not was_alive or self.pid[rank] != seen.pid:
            self.born_s[rank] = now_s
            self.changed_s[rank] = now_s
        self.pid[rank] = seen.pid
        stopped = seen.process_state == _STOPPED or (seen.process_state == _ZOMBIE and seen.process_state_s > _ZOMBIE_S)
        frozen = stopped and seen.life != "exited"
        self.frozen_since_s[rank] = now_s - seen.process_state_s if frozen else NEVER

    def _take_beats(self, ranks: tuple[RankSeen, ...], beats: Beats, now_s: float) -> None:
        """The hot one: 16,384 ranks a second in a large cluster."""
        first_step = self._section_index(FIRST_STEP) if beats.sections else 0
        named = [self._section_index(name) for name in beats.sections]
        early = [index if _has_own_silence(beats.sections[place]) else first_step for place, index in enumerate(named)]
        seen_s, step, steps_done, section = self.seen_s, self.step, self.steps_done, self.section
        changed_s, began_s = self.changed_s, self.began_s
        places = len(beats.section)
        for place, seen in enumerate(ranks):
            if seen.generation != self.generation:
                continue
            rank = seen.rank
            seen_s[rank] = now_s
            number = beats.section[place] if place < places else 0
            if number:
                done = beats.steps_done[place]
                step[rank] = beats.step[place]
                steps_done[rank] = done
                section[rank] = named[number - 1] if done else early[number - 1]
                changed_s[rank] = now_s - beats.quiet_s[place]
                began_s[rank] = now_s - beats.step_age_s[place]

    def sweep(self, gaps: Gaps, silent_nodes: set[str], settings: CoreSettings, now_s: float) -> Sweep:
        """Which living ranks are frozen for longer than the limit of their section, and whether all are silent.

        Ranks of silent nodes are left out: their figures are old, not their ranks.
        """
        looked = self.alive & self._on_live_nodes(silent_nodes)
        if not looked.any():
            return Sweep((), 0, False, 0.0, settings.gap_unknown_s)
        limits = np.array([gaps.limit_s(name, settings) for name in self.sections])
        limit = limits[self.section]
        frozen = looked & (now_s - self.changed_s > limit) & np.isfinite(self.frozen_since_s)
        stalls = np.array([gaps.stall_limit_s(name, settings) for name in self.sections])
        quiet = self.seen_s - self.changed_s
        last = int(np.argmin(np.where(looked, now_s - self.changed_s, np.inf)))
        return Sweep(
            frozen=tuple(int(rank) for rank in np.flatnonzero(frozen)),
            looked=int(looked.sum()),
            all_silent=bool((quiet > stalls[self.section])[looked].all()),
            quiet_s=float(now_s - self.changed_s[last]),
            limit_s=float(stalls[self.section[last]]),
        )

    def evidence(self, silent_nodes: set[str], now_s: float) -> tuple[int, ...]:
        """Living ranks whose process is stopped, for longer than a debugger's sample takes."""
        return self.frozen_for(_SAMPLE_S, silent_nodes, now_s)

    def all_stopped(self) -> bool:
        """Every living rank is stopped."""
        return bool(self.alive.any()) and bool(np.isfinite(self.frozen_since_s[self.alive]).all())

    def frozen_for(self, seconds: float, silent_nodes: set[str], now_s: float) -> tuple[int, ...]:
        """Living ranks that have been stopped for so long, whatever their pages say."""
        stopped = self.alive & self._on_live_nodes(silent_nodes) & (now_s - self.frozen_since_s > seconds)
        return tuple(int(rank) for rank in np.flatnonzero(stopped & np.isfinite(self.frozen_since_s)))

    def others_silent(
        self, nodes: set[str], gaps: Gaps, settings: CoreSettings, now_s: float | None, least_s: float = 0.0
    ) -> bool:
        """True if every living rank outside `nodes` is silent for longer than its (patient) limit and `least_s`.

        `now_s` None: is known to be, by what was reported; else: seems to be at that time.
        """
        others = self.alive & self._on_live_nodes(nodes)
        if not others.any():
            return False
        limits = np.array([max(gaps.patient_limit_s(name, settings), least_s) for name in self.sections])
        until_s = self.seen_s if now_s is None else now_s
        return bool((until_s - self.changed_s > limits[self.section])[others].all())

    def others_step(self, node: str) -> int:
        """The newest step outside `node`; -1 if there is none."""
        steps = self.step[self.node != self._node_index(node)]
        return int(steps.max()) if steps.size else -1

    def forgive(self, slept_s: float, now_s: float) -> None:
        """Nobody was looking for so long: that is not the ranks' silence."""
        self.changed_s = np.minimum(now_s, self.changed_s + slept_s)

    def node_of(self, rank: int) -> str:
        return self.nodes[int(self.node[rank])]

    def top_step(self) -> int | None:
        """The newest step any rank is in; None if no rank says."""
        top = int(self.step.max()) if self.step.size else -1
        return top if top >= 0 else None

    def top_steps_done(self) -> int:
        return int(self.steps_done.max()) if self.steps_done.size else 0

    def last_advance_s(self) -> float:
        """When a living rank advanced last, of whichever; `NEVER` where none lives."""
        return float(self.changed_s[self.alive].max(initial=NEVER))

    def all_alive_since_s(self, world_size: int) -> float | None:
        """When the last of the ranks was born, if all of them live now or have lived."""
        if len(self.alive) < world_size or not (self.alive | self.ended).all():
            return None
        return float(self.born_s.max())

    def first_step_began_s(self) -> float | None:
        stepping = self.step >= 0
        return float(self.began_s[stepping].min()) if stepping.any() else None

    def _on_live_nodes(self, silent_nodes: set[str]) -> Flags:
        if not silent_nodes:
            return np.ones(len(self.alive), dtype=np.bool_)
        indexes = [index for index, name in enumerate(self.nodes) if name in silent_nodes]
        return ~np.isin(self.node, indexes)

    def _node_index(self, node: str) -> int:
        return _index(self.nodes, self.node_index, node)

    def _section_index(self, section: str) -> int:
        if len(self.sections) >= SECTIONS_MAX and section not in self.section_index:
            return 0
        return _index(self.sections, self.section_index, section)


_COLUMNS: tuple[tuple[str, type[np.generic], float], ...] = (
    ("alive", np.bool_, False),
    ("ended", np.bool_, False),
    ("attached", np.bool_, False),
    ("node", np.int64, -1),
    ("pid", np.int64, 0),
    ("step", np.int64, -1),
    ("steps_done", np.int64, 0),
    ("section", np.int64, 0),
    ("seen_s", np.float64, 0.0),
    ("changed_s", np.float64, NEVER),
    ("born_s", np.float64, NEVER),
    ("began_s", np.float64, NEVER),
    ("frozen_since_s", np.float64, NEVER),
)


def _has_own_silence(section: str) -> bool:
    """Also before the first step is done, which else has a silence of its own."""
    return section == END or section.startswith(PAUSE)


def _index(names: list[str], indexes: dict[str, int], name: str) -> int:
    """The place of `name` in `names`, appended if it is new."""
    index = indexes.get(name)
    if index is None:
        index = indexes[name] = len(names)
        names.append(name)
    return index
