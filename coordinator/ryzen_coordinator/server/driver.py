"""Runs the core: gives it events and the time, and brings its effects about in their order.

Every call of the core happens on the event loop, so the core sees one thing at a time. Effects go through one
queue: what a step decided is written to the journal (in a thread; several steps share a commit) before the desired
states of that step, or of any later one, are handed to the streams. A journal that fails is said loudly and does
not hold up a recovery: generations are adopted from the nodes should it be lost.

Every call with its effects also goes into the log of inputs (inputs/writer.py), and is in the kernel's hands before a
decision that it led to is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterable

import structlog

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.durable import DurableError
from ryzen_coordinator.core.effects import Desire, Effect, IncidentChanged, Say
from ryzen_coordinator.core.effects import Journal as JournalRecord
from ryzen_coordinator.core.events import Event
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.errors import JournalError
from ryzen_coordinator.inputs.entries import Call, Cause, Update, raised
from ryzen_coordinator.inputs.reader import folder_of
from ryzen_coordinator.inputs.writer import InputLog
from ryzen_coordinator.journal import Journal
from ryzen_coordinator.server import convert
from ryzen_coordinator.server.outbox import Latest, Subscribers
from ryzen_coordinator.server.present import incident_message
from ryzen_coordinator.telemetry.observer import Observer
from ryzen_protos.v1 import node_pb2 as pb_node
from ryzen_protos.v1 import operator_pb2 as pb
from ryzen_telemetry.pipeline import Telemetry

TICK_S = 0.05
_PRUNE_EVERY_S = 600.0
_INPUTS_EVERY_S = 1.0

_log = structlog.get_logger("ryzen_coordinator")


class Driver:
    """The one owner of the core. Raises JournalError if the journal's records cannot be read."""

    def __init__(
        self, settings: CoreSettings, journal: Journal, replay_bytes: int = 0, telemetry: Telemetry | None = None
    ) -> None:
        now_s = time.monotonic()
        self.session = uuid.uuid4().hex
        self.started_s = now_s
        self.journal = journal
        unix_offset_s = time.time() - now_s
        records = journal.records()
        self._inputs: InputLog | None = None
        self._inputs_wait = asyncio.Event()
        if replay_bytes:
            self._inputs = InputLog(folder_of(journal.path), replay_bytes, self.session)
            self._inputs.start(settings, records, now_s, unix_offset_s)
        try:
            self.core = Core(settings, records, now_s, unix_offset_s)
        except DurableError as error:
            raise JournalError(f"journal {journal.path}: {error}: give another --journal") from error
        self._observer = Observer(telemetry, self.core.cluster) if telemetry is not None else None
        self.incidents = Subscribers()
        self.changes = 0
        self._outboxes: dict[str, Latest[Desire]] = {}
        self._queue: asyncio.Queue[list[Effect]] = asyncio.Queue()
        self._waiting: list[asyncio.Future[bool]] = []
        self._streams = 0
        self._version = 0

    def submit(self, event: Event) -> None:
        """Take in an event now; its effects follow soon."""
        self._call(event, lambda now_s: self.core.step(event, now_s))
        self.changes += 1

    def take_update(self, node: str, stream: int, message: pb_node.NodeUpdate) -> None:
        """The same for what a node says."""
        update = Update(node, stream, message, time.time_ns())
        report = convert.report(*update)
        self._call(update, lambda now_s: self.core.step(report, now_s))
        self.changes += 1
        if self._observer is not None:
            self._observer.reports += 1

    def open_stream(self, node: str) -> tuple[int, Latest[Desire]]:
        """A new connection of a node: its number, and where its desired states will appear."""
        self._streams += 1
        outbox: Latest[Desire] = Latest()
        self._outboxes[node] = outbox
        return self._streams, outbox

    def next_version(self) -> int:
        """Of a desired state that is about to be sent; an agent ignores lower ones."""
        self._version += 1
        return self._version

    def name_traces(self, state: pb_node.DesiredState) -> pb_node.DesiredState:
        """Tell the node which incidents are open, so that what it does is part of their traces."""
        if self._observer is not None:
            for job in state.jobs:
                job.traceparent = self._observer.traceparent(job.user, job.run_id)
        return state

    def repeat(self, node: str) -> None:
        """Send the node's newest desired state again (an acknowledgement travels on it)."""
        if (outbox := self._outboxes.get(node)) is not None:
            outbox.put_again()

    async def drain(self) -> None:
        """Write what has been decided and not yet written."""
        while not self._queue.empty():
            batch = self._queue.get_nowait()
            await self._write([effect for effect in batch if isinstance(effect, JournalRecord)])

    async def close(self) -> None:
        """Write the rest of everything; call it when nothing runs any more."""
        await self.drain()
        if self._inputs is not None:
            await asyncio.to_thread(self._inputs.close, time.monotonic())
        self.journal.close()

    async def run(self) -> None:
        """Tick and carry effects until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._carry())
            group.create_task(self._prune())
            if self._observer is not None:
                group.create_task(self._observe(self._observer))
            if self._inputs is not None:
                group.create_task(self._keep_inputs(self._inputs))

    async def write_events(self, node: str, events: Iterable[tuple[int, int, str, str, dict[str, str]]]) -> bool:
        """Keep a node's history; True once it is on disk and may be acknowledged."""
        try:
            await asyncio.to_thread(self.journal.write_events, node, list(events))
        except JournalError as error:
            _log.error(str(error))
            return False
        return True

    async def settled(self) -> bool:
        """Wait until everything that has been decided so far is on disk; False if it could not be written."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._queue.put_nowait([])
        return await done

    def _call(self, cause: Cause, call: Callable[[float], list[Effect]]) -> bool:
        """Call the core now; True if that had effects."""
        now_s = time.monotonic()
        try:
            effects = call(now_s)
        except Exception as error:
            self._keep_input(Call(now_s, cause, raised(error)))
            raise
        self._keep_input(Call(now_s, cause, effects))
        if effects:
            self._queue.put_nowait(effects)
        return bool(effects)

    def _keep_input(self, call: Call) -> None:
        if self._inputs is not None and self._inputs.add(call, self.core):
            self._inputs_wait.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._call(None, self.core.tick):
                self.changes += 1

    async def _carry(self) -> None:
        while True:
            batch = await self._queue.get()
            while not self._queue.empty():
                batch = batch + self._queue.get_nowait()
            waiting, self._waiting = self._waiting, []
            records = [effect for effect in batch if isinstance(effect, JournalRecord)]
            written = not records or await self._write(records)
            for done in waiting:
                if not done.done():
                    done.set_result(written)
            for effect in batch:
                self._hand_out(effect)

    async def _write(self, records: list[JournalRecord]) -> bool:
        try:
            await asyncio.to_thread(self._put_on_disk, records)
        except JournalError as error:
            _log.error("a decision could not be kept and would be forgotten by a restart", journal=str(error))
            return False
        return True

    def _put_on_disk(self, records: list[JournalRecord]) -> None:
        if self._inputs is not None:
            self._inputs.flush()
        self.journal.write(records, time.time())

    async def _keep_inputs(self, inputs: InputLog) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INPUTS_EVERY_S):
                    await self._inputs_wait.wait()
            self._inputs_wait.clear()
            await asyncio.to_thread(inputs.flush)

    async def _observe(self, observer: Observer) -> None:
        while True:
            observer.look()
            await asyncio.sleep(observer.interval_s)

    def _hand_out(self, effect: Effect) -> None:
        if self._observer is not None:
            self._observer.effect(effect)
        if isinstance(effect, Desire):
            if (outbox := self._outboxes.get(effect.node)) is not None:
                outbox.put(effect)
        elif isinstance(effect, IncidentChanged):
            if effect.incident_id in self.core.cluster.incidents:
                self.incidents.publish(self.incident(effect.incident_id))
        elif isinstance(effect, Say):
            getattr(_log, effect.level)(effect.text, **dict(effect.fields))

    def incident(self, number: int) -> pb.Incident:
        return incident_message(self.core.cluster.incidents[number])

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(_PRUNE_EVERY_S)
            try:
                await asyncio.to_thread(self.journal.prune)
            except JournalError as error:
                _log.error(str(error))
