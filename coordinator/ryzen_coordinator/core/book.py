"""The book of one job: what each second of each of its GPUs has gone into. Arithmetic; ledger.py says what is what.

Nodes that have been in the same states all the time share one `Account`, so that a second costs the same for two nodes
as for 2,048, and an account is split only when its nodes part ways. Seconds are those of one GPU of one node of the
account: times `gpus` times the nodes they are GPU-seconds. Where ranks compute on CPUs, a rank is what a GPU is here.

    clock   productive seconds of the job, those alone:  |----- generation 1 -----|--- 2 ---|-- 3 --
    worked  the stretches of it that an account's nodes took part in

What turns out later not to have been productive is the clock turned back: `rewind` cuts the end off every account's
stretches and books it elsewhere. Nothing is ever added or dropped, so the sum stays wall time x GPUs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

State: TypeAlias = Literal["productive", "checkpoint", "lost_steps", "detection", "recovery", "waiting", "idle"]

STATES: tuple[State, ...] = ("productive", "checkpoint", "lost_steps", "detection", "recovery", "waiting", "idle")

STRETCHES_KEPT = 32
"""Of each account; older ones can no longer be turned back."""

STEPS_KEPT = 128
"""Points by which a step finds its place on the clock; between two of them steps are taken to be equally long."""


@dataclass(slots=True)
class Account:
    """Nodes with one history. `state`: since the book was settled last, "" where the job does not hold them.

    `spent_s`: seconds by state, of all states but productive; `earlier_s`: productive ones before the stretches kept.
    """

    nodes: tuple[str, ...]
    gpus: int
    state: State | Literal[""] = ""
    spent_s: dict[str, float] = field(default_factory=dict)
    worked: list[tuple[float, float]] = field(default_factory=list)
    earlier_s: float = 0.0

    @property
    def weight(self) -> int:
        """GPUs of all of its nodes."""
        return self.gpus * len(self.nodes)

    def seconds(self) -> dict[str, float]:
        """All of them by state, in the order of STATES."""
        productive = self.earlier_s + sum(end - begin for begin, end in self.worked)
        return {state: productive if state == "productive" else self.spent_s.get(state, 0.0) for state in STATES}

    def book(self, state: str, seconds: float) -> None:
        self.spent_s[state] = self.spent_s.get(state, 0.0) + seconds

    def work(self, begin_s: float, end_s: float) -> None:
        """Take part in the job's clock from `begin_s` to `end_s`."""
        if self.worked and self.worked[-1][1] == begin_s:
            self.worked[-1] = (self.worked[-1][0], end_s)
            return
        self.worked.append((begin_s, end_s))
        if len(self.worked) > STRETCHES_KEPT:
            begin, end = self.worked.pop(0)
            self.earlier_s += end - begin

    def cut(self, clock_s: float) -> float:
        """Take away what was worked after `clock_s`; how much that was."""
        taken = 0.0
        while self.worked and self.worked[-1][1] > clock_s:
            begin, end = self.worked.pop()
            taken += end - max(begin, clock_s)
            if begin < clock_s:
                self.worked.append((begin, clock_s))
        return taken

    def part(self, nodes: tuple[str, ...]) -> Account:
        """The same history for some of the nodes."""
        return replace(self, nodes=nodes, spent_s=dict(self.spent_s), worked=list(self.worked))


@dataclass(slots=True)
class Book:
    """All accounts of a job. `settled_s`: everything before is booked; `wall_s`: for how long the job held any node.

    `steps`: (step, clock) points, both ascending. `situation`: what ledger.py saw last, and `beside` whom the job held
    then beside those at work; `looked_s`: when it looked for them. `owner`: the incident whose recovery is under way;
    `detected_s`: how much of it is booked as detection, of each GPU; `stalled_s`: the same of the present stall.
    `started`: the job has trained. `began_s`: the clock when the present generation began to. `heard`: some node has
    spoken since this coordinator began; before that nobody knows what the job does.
    """

    settled_s: float = 0.0
    wall_s: float = 0.0
    clock_s: float = 0.0
    accounts: list[Account] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    situation: tuple[str, int, tuple[str, ...]] = ("", 0, ())
    beside: tuple[str, ...] = ()
    looked_s: float = 0.0
    owner: int | None = None
    detected_s: float = 0.0
    stalled_s: float = 0.0
    began_s: float = 0.0
    started: bool = False
    heard: bool = True

    def hold(self, states: Mapping[str, State], gpus: Mapping[str, int]) -> None:
        """From now on the job holds these nodes, each in its state, and no others. `gpus`: of each of them."""
        accounts: list[Account] = []
        known: set[str] = set()
        for account in self.accounts:
            parts: dict[State | Literal[""], list[str]] = {}
            for node in account.nodes:
                here = node in states and gpus[node] == account.gpus
                parts.setdefault(states[node] if here else "", []).append(node)
                if here:
                    known.add(node)
            for state, nodes in parts.items():
                piece = account if len(parts) == 1 else account.part(tuple(nodes))
                piece.state = state
                accounts.append(piece)
        fresh: dict[tuple[State, int], list[str]] = {}
        for node, state in states.items():
            if node not in known:
                fresh.setdefault((state, gpus[node]), []).append(node)
        accounts += [Account(tuple(nodes), count, state) for (state, count), nodes in fresh.items()]
        self.accounts = accounts

    def settle(self, now_s: float) -> dict[str, float]:
        """Book the time since it was settled last, each account under its state; GPU-seconds by state."""
        seconds, self.settled_s = max(0.0, now_s - self.settled_s), max(now_s, self.settled_s)
        booked: dict[str, float] = {}
        if not seconds:
            return booked
        end_s = self.clock_s + seconds
        for account in self.accounts:
            if not account.state:
                continue
            if account.state == "productive":
                account.work(self.clock_s, end_s)
            else:
                account.book(account.state, seconds)
            booked[account.state] = booked.get(account.state, 0.0) + seconds * account.weight
        if "productive" in booked:
            self.clock_s = end_s
        if booked:
            self.wall_s += seconds
        return booked

    def rewind(self, clock_s: float, state: State) -> float:
        """What was productive after `clock_s` has gone into `state` after all; how many GPU-seconds that was."""
        if clock_s >= self.clock_s:
            return 0.0
        moved = 0.0
        for account in self.accounts:
            if taken := account.cut(clock_s):
                account.book(state, taken)
                moved += taken * account.weight
        self.clock_s = clock_s
        self.began_s = min(self.began_s, clock_s)
        self.steps = [(step, min(at_s, clock_s)) for step, at_s in self.steps]
        return moved

    def give_back(self, seconds: float) -> float:
        """The newest `seconds` that those who are in detection have spent there were productive; GPU-seconds."""
        end_s, moved = self.clock_s + seconds, 0.0
        for account in self.accounts:
            taken = min(seconds, account.spent_s.get("detection", 0.0))
            if account.state == "detection" and taken > 0:
                account.book("detection", -taken)
                account.work(end_s - taken, end_s)
                moved += taken * account.weight
        self.clock_s = end_s if moved else self.clock_s
        return moved

    def note_step(self, step: int) -> None:
        """The job is in this step now."""
        if self.steps and step < self.steps[-1][0]:
            self.steps = []  # its numbers begin anew: those from before say nothing any more
        if self.steps and step == self.steps[-1][0]:
            return
        self.steps.append((step, self.clock_s))
        if len(self.steps) > STEPS_KEPT:
            half = STEPS_KEPT // 2
            self.steps = self.steps[:half:2] + self.steps[half:]

    def clock_of(self, step: int) -> float:
        """Where on the clock that step began, between the points that are known; the present for one still to come."""
        place = bisect_right(self.steps, step, key=lambda point: point[0])
        if place == 0:
            return self.steps[0][1] if self.steps else self.clock_s
        before, at_s = self.steps[place - 1]
        if place == len(self.steps) or before == step:
            return at_s if before == step else self.clock_s
        after, until_s = self.steps[place]
        return at_s + (until_s - at_s) * (step - before) / (after - before)

    def resume(self, step: int) -> float:
        """The job has begun again with this step: the time of what it had done from there on is lost; GPU-seconds."""
        lost = self.rewind(self.clock_of(step), "lost_steps") if self.steps and step < self.steps[-1][0] else 0.0
        self.steps = [point for point in self.steps if point[0] < step]
        self.steps.append((step, self.clock_s))
        return lost
