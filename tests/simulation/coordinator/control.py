"""The coordinator and the lines to it: the real core, a journal that takes its time, streams that lose what is on them.

What a step decided is written first and handed out then, in one queue, as the server's driver does it. A crash loses
what is in the queue: decided, not written; or written, not sent. A report may be lost, repeated or overtaken.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Desire, Effect, Journal, Say
from ryzen_coordinator.core.events import Event, NodeGone, NodeReport

from .simulated import SimNode
from .told import Told

if TYPE_CHECKING:
    from .simulator import Simulation

UNIX_OFFSET_S = 1.7e9
CALM_AFTER_S = 4.0
CALM_TICK_S = 0.25
"""With nothing going on the clock is looked at less often, so that long pauses cost little. Below half a lease, or the
core would think that it had slept."""


class Life:
    """One life of the coordinator: what it began with and every call since, to be lived once more by a checker."""

    def __init__(self, sim: Simulation, records: list[tuple[str, str, dict[str, Any]]]) -> None:
        # Another machine, another monotonic clock.
        self.shift_s = sim.dice.uniform(0.0, 1e5)
        self.offset_s = UNIX_OFFSET_S - self.shift_s
        self.records, self.began_s, self.settings = records, sim.now_s + self.shift_s, sim.case.settings
        self.calls: list[tuple[Event | None, float, list[Effect]]] = []
        self.core = self.fresh()
        self.told = Told()

    def fresh(self) -> Core:
        return Core(self.settings, copy.deepcopy(self.records), self.began_s, self.offset_s)


class Control:
    """The coordinator as the cluster sees it."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.lives: list[Life] = []
        self.life: Life | None = None
        self.streams: dict[str, int] = {}
        self.opened = 0
        self.version = 0
        self.queue: list[list[Effect]] = []
        self.writing = False
        self.dozes_until_s = 0.0
        self.busy_s = 0.0
        self.marks: dict[str, object] = {}
        self.heard: dict[str, tuple[float, NodeReport]] = {}

    # ------------------------------------------------------------ life

    def start(self) -> None:
        records = [(kind, key, body) for (kind, key), body in sorted(self.records.items())]
        self.life = Life(self.sim, records)
        self.lives.append(self.life)
        self.marks, self.heard = {}, {}
        self._tick(self.life)

    def crash(self) -> None:
        """Whatever was not written is lost, and every stream with it."""
        self.life, self.queue, self.writing, self.dozes_until_s = None, [], False, 0.0
        for name in list(self.streams):
            self._break(self.sim.nodes[name], self.sim.dice.uniform(0.0, 0.2))
        self.streams = {}

    def _tick(self, life: Life) -> None:
        if self.life is not life:
            return
        if self.dozes_until_s > self.sim.now_s:
            self.sim.engine.at(self.dozes_until_s, lambda: self._tick(life))
            return
        self._call(None)
        calm = self.sim.now_s - self.busy_s > CALM_AFTER_S
        self.sim.after(CALM_TICK_S if calm else self.sim.case.tick_s, lambda: self._tick(life))

    def give(self, event: Event) -> None:
        """An event reaches the core, if there is one; a process that is stopped finds it when it goes on."""
        life = self.life
        if life is not None and self.dozes_until_s > self.sim.now_s:
            self.sim.engine.at(self.dozes_until_s, lambda: self._gone(life, event))
        elif life is not None:
            self._call(event)

    def listens(self) -> bool:
        """Whether a command of the operator would be taken in now."""
        return self.life is not None and self.dozes_until_s <= self.sim.now_s

    def known(self) -> set[str]:
        """The nodes that the core has heard of."""
        return set(self.life.core.cluster.nodes) if self.life is not None else set()

    def up_s(self) -> float:
        """For how long this life has lasted, 0 while there is none."""
        return self.sim.now_s + self.life.shift_s - self.life.began_s if self.life is not None else 0.0

    def over(self) -> str:
        """The phase of the job as it is kept."""
        return next((body["phase"] for (kind, _), body in self.records.items() if kind == "job"), "")

    def generation(self) -> int:
        """The newest that was decided."""
        jobs = self.life.core.cluster.jobs.values() if self.life is not None else ()
        return max((job.generation for job in jobs), default=0)

    def _call(self, event: Event | None) -> None:
        life = self.life
        assert life is not None
        now_s = self.sim.now_s + life.shift_s
        if isinstance(event, NodeReport):
            event = life.told.shortened(event)
        effects = life.core.tick(now_s) if event is None else life.core.step(event, now_s)
        if isinstance(event, NodeReport):
            life.told.taken(event, life.core)
        if self.sim.replays:
            life.calls.append((event, now_s, effects))
        if effects:
            self.busy_s = self.sim.now_s
            for effect in effects:
                if isinstance(effect, Say):
                    self.sim.note(f"{effect.level}: {effect.text}")
            self.sim.watch("decided", effects)
            self._signals(life)
            if self.life is life:
                self.queue.append(effects)
                self._carry(life)

    def _signals(self, life: Life) -> None:
        """What faults may wait for."""
        for job in life.core.cluster.jobs.values():
            now = {"announced": job.generation, "go": job.generation if job.go else 0, "phase": job.phase}
            now["formed"] = job.world.generation if job.world is not None else 0
            for name, value in now.items():
                if self.marks.get(name) != value and value:
                    self.marks[name] = value
                    self.sim.emit(name if name != "phase" else str(value))

    # ------------------------------------------------------------ carrying

    def _carry(self, life: Life) -> None:
        if self.writing or not self.queue or self.life is not life:
            return
        if self.dozes_until_s > self.sim.now_s:
            self.sim.engine.at(self.dozes_until_s, lambda: self._carry(life))
            return
        self.writing = True
        batch = [effect for effects in self.queue for effect in effects]
        self.queue = []
        keeps = any(isinstance(effect, Journal) for effect in batch)
        self.sim.after(self.sim.dice.uniform(0.001, 0.01) if keeps else 0.0002, lambda: self._written(life, batch))

    def _written(self, life: Life, batch: list[Effect]) -> None:
        if self.life is not life:
            return
        for effect in batch:
            if isinstance(effect, Journal):
                if effect.body is None:
                    self.records.pop((effect.kind, effect.key), None)
                else:
                    self.records[(effect.kind, effect.key)] = json.loads(json.dumps(effect.body))
        self.sim.emit("written")
        self.sim.after(0.0002, lambda: self._hand_out(life, batch))

    def _hand_out(self, life: Life, batch: list[Effect]) -> None:
        if self.life is not life:
            return
        for effect in batch:
            if isinstance(effect, Desire):
                self._send(effect)
        self.writing = False
        self.sim.emit("sent")
        self._carry(life)

    # ------------------------------------------------------------ the lines

    def open_stream(self, node: SimNode) -> int:
        """The number of a new stream, 0 where the coordinator cannot be reached."""
        if self.life is None or self.sim.cut_until_s.get(node.name, 0.0) > self.sim.now_s:
            return 0
        self.opened += 1
        self.streams[node.name] = self.opened
        return self.opened

    def hang_up(self, node: SimNode, goodbye: bool = False) -> None:
        """The node's side of its stream is gone. The coordinator hears of it, or only by silence."""
        stream = self.streams.pop(node.name, 0)
        if stream and (goodbye or self.sim.dice.random() < 0.7):
            life = self.life
            self.sim.after(self._delay_s(), lambda: self._gone(life, NodeGone(node.name, stream, goodbye)))
        self.sim.agents.lost_stream(node)

    def _gone(self, life: Life | None, event: Event) -> None:
        if self.life is life:
            self.give(event)

    def _break(self, node: SimNode, delay_s: float) -> None:
        agent = node.agent
        stream = agent.stream if agent is not None else 0

        def see() -> None:
            if node.agent is agent and agent is not None and agent.stream == stream:
                self.sim.agents.lost_stream(node)

        self.sim.on(node, delay_s, see)

    def post(self, node: SimNode, report: NodeReport) -> None:
        """A report sets out."""
        dice, life = self.sim.dice, self.life
        if report.hello is None and dice.random() < self.sim.case.loss:
            return
        copies = 2 if dice.random() < 0.02 else 1
        for _ in range(copies):
            self.sim.after(self._delay_s(), lambda: self._arrive(node, report, life))

    def _arrive(self, node: SimNode, report: NodeReport, life: Life | None) -> None:
        broken = self.streams.get(node.name) != report.stream
        if life is not None and self.life is life and not (broken and self.sim.dice.random() < 0.5):
            known = self.heard.get(node.name)
            if known is None or (known[1].stream, known[1].seq) < (report.stream, report.seq):
                self.heard[node.name] = (self.sim.now_s, report)
            self.give(report)

    def _send(self, effect: Desire) -> None:
        stream = self.streams.get(effect.node)
        if stream is None:
            return
        self.version += 1
        version, node = self.version, self.sim.nodes[effect.node]
        for _ in range(2 if self.sim.dice.random() < 0.02 else 1):
            delay_s = self._delay_s()
            self.sim.on(
                node,
                delay_s,
                lambda: self._land(node, stream, lambda: self.sim.agents.take(node, stream, version, effect.desired)),
            )

    def _land(self, node: SimNode, stream: int, take: Callable[[], None]) -> None:
        if self.streams.get(node.name) == stream:
            take()

    def _delay_s(self) -> float:
        dice = self.sim.dice
        return dice.uniform(0.0003, 0.015) if dice.random() < 0.98 else dice.uniform(0.05, 0.4)
