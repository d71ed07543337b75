"""A whole cluster in virtual time around the real core: torchruns, handlers, agents, ranks, delays, faults.

One case (cases.py) is one exact run. The parts are in worlds.py, torchruns.py, agents.py and control.py; each follows
what was measured of the real one. What must never happen is said in checkers/: they watch while it runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen
from ryzen_coordinator.core.phases import OVER

from .agents import Agents
from .control import Control
from .engine import Engine
from .simulated import Fault, SimNode, Torchrun
from .torchruns import Torchruns
from .worlds import Worlds

if TYPE_CHECKING:
    from .cases import Case
    from .checkers.checker import Checker

SETTLE_S = 75.0
"""After the ranks have finished: longer than the longest wait of the core for a node that is done."""


class Simulation:
    """Run it with `run`; then `broken` has a line for every promise that was not kept."""

    def __init__(
        self, case: Case, checkers: Iterable[type[Checker]] = (), replays: bool = False, enough: str | None = None
    ) -> None:
        """`enough`: stop at the first broken promise of this name; a core that is mutated may never come to an end."""
        self.case, self.replays, self.enough = case, replays, enough
        self.dice = random.Random(case.seed)
        self.engine = Engine()
        self.log: list[str] = []
        self.broken: list[str] = []
        self.numbers = 1000
        self.cut_until_s: dict[str, float] = {}
        self.returning = 0
        self.finished_s: float | None = None
        self.left_s: float | None = None
        self.signals: dict[str, int] = {}
        self.faults = list(case.faults)
        self.struck: list[Fault] = []
        self.said: dict[str, list[HealthSeen]] = {}
        """By node, what its kernel log has said; nobody acknowledges it, so it is told with every report."""
        self.conditions: dict[str, tuple[ConditionSeen, ...]] = {}
        self.control = Control(self)
        self.worlds = Worlds(self)
        self.torchruns = Torchruns(self)
        self.agents = Agents(self)
        self.nodes: dict[str, SimNode] = {}
        self.checkers = [checker(self) for checker in checkers]
        self._watchers: dict[str, list[Callable[..., None]]] = {}
        for index in range(case.nodes):
            self.raise_node(f"node-{index}", index, self.dice.uniform(0.0, 0.5))

    @property
    def now_s(self) -> float:
        return self.engine.now_s

    def run(self) -> None:
        from .faults import strike

        self.control.start()
        for fault in self.faults:
            if fault.at_s is not None:
                self.engine.at(fault.at_s, partial(strike, self, fault))
        self.engine.run(self.case.until_s, self.over)
        self.watch("ended")

    def over(self) -> bool:
        """No torchrun lives or will come back, and the core knows; or one lives on long after the end, in a new run."""
        if self.enough is not None and any(line.startswith(f"{self.enough}:") for line in self.broken):
            return True
        if self.finished_s is not None and self.now_s > self.finished_s + SETTLE_S:
            return True
        if self.returning or not all(node.gone or not node.torchrun.alive for node in self.nodes.values()):
            self.left_s = None
            return False
        self.left_s = self.now_s if self.left_s is None else self.left_s
        return self.control.over() in OVER or self.now_s > self.left_s + SETTLE_S

    def note(self, line: str) -> None:
        self.log.append(f"{self.now_s:8.3f}  {line}")

    # ------------------------------------------------------------ for the parts

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.engine.after(delay_s, act)

    def on(self, node: SimNode, delay_s: float, act: Callable[[], None]) -> None:
        """Later, on a machine: dropped when it is gone, put off while it is frozen."""

        def do() -> None:
            if node.gone:
                return
            if node.frozen_until_s > self.now_s:
                self.engine.at(node.frozen_until_s + self.dice.uniform(0.0, 0.02), do)
            else:
                act()

        self.engine.after(delay_s, do)

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def raise_node(self, name: str, hint: int, delay_s: float) -> None:
        """A machine boots: its agent starts and a torchrun comes to the rendezvous."""
        node = SimNode(name, hint, Torchrun(0), drift=self.dice.uniform(-200e-6, 200e-6))
        self.nodes[name] = node

        def boot() -> None:
            self.torchruns.begin(node)
            self.agents.start(node)

        node.torchrun.alive = True
        self.on(node, delay_s, boot)

    def emit(self, signal: str) -> None:
        """Something that a fault may have waited for."""
        from .faults import strike

        if signal == "finished" and self.finished_s is None:
            self.finished_s = self.now_s
        count = self.signals[signal] = self.signals.get(signal, 0) + 1
        for fault in self.faults:
            if fault.signal == signal and fault.nth == count:
                self.after(fault.delay_s, partial(strike, self, fault))

    def watch(self, what: str, *about: object) -> None:
        """Tell the checkers that have a method of this name."""
        watchers = self._watchers.get(what)
        if watchers is None:
            watchers = [getattr(checker, what) for checker in self.checkers if hasattr(checker, what)]
            self._watchers[what] = watchers
        for watcher in watchers:
            watcher(*about)
