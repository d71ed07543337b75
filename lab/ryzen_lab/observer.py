"""Fills the record: the socket that the hooks in the ranks write to, and a pidfd for each process.

Runs in the lab's event loop. A pidfd becomes readable the moment its process is dead, whoever the parent is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ryzen_lab.errors import NeverHappened
from ryzen_lab.record import Injection, Listener, Rank, Record, Service, exec_time_ns, exit_code_of_zombie
from ryzen_protos.v1 import operator_pb2


class Observer:
    """Owns the record of one trial."""

    def __init__(self, socket_path: Path) -> None:
        self.record = Record()
        self.socket_path = socket_path
        self.listeners: list[Listener] = []
        self._server: asyncio.Server | None = None
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._pidfds: set[int] = set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket_path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers.values():
            writer.close()
        for descriptor in list(self._pidfds):
            self._forget(descriptor)

    async def until(
        self, what: str, condition: Callable[[], bool], timeout_s: float, why_not: Callable[[], str] = lambda: ""
    ) -> None:
        """Return as soon as `condition` holds after some event. Raises NeverHappened, at once where `why_not`
        gives a reason why it cannot come any more."""
        started = time.monotonic()
        while not condition():
            if reason := why_not():
                raise NeverHappened(what, time.monotonic() - started, reason)
            left = started + timeout_s - time.monotonic()
            if left <= 0:
                raise NeverHappened(what, timeout_s)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.5)):
                    await self._changed.wait()

    def tell(self, kind: str, subject: object) -> None:
        self._changed.set()
        for listener in self.listeners:
            listener(kind, subject)

    def order(self, rank: Rank, **order: Any) -> None:
        """Send an order to the hook in a rank."""
        writer = self._writers.get(rank.pid)
        if writer is not None:
            writer.write(json.dumps(order).encode() + b"\n")

    def watch_service(self, service: Service, reap: Callable[[], int | None]) -> None:
        """Record the death of a child of ours; `reap` gives its exit code."""
        self.record.services.append(service)

        def died(at_ns: int) -> None:
            service.died_ns, service.exit_code = at_ns, reap()
            self.tell("service", service)

        self._watch(service.pid, died)

    def injected(self, injection: Injection) -> None:
        self.record.injections.append(injection)
        self.tell("injected", injection)

    def incident(self, incident: operator_pb2.Incident) -> None:
        self.record.incidents.append((time.monotonic_ns(), incident))
        self.tell("incident", incident)

    def returned(self, what: str, node: str) -> None:
        self.record.returns.append((time.monotonic_ns(), what, node))
        self.tell("returned", (what, node))

    def _watch(self, pid: int, died: Callable[[int], None]) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            died(time.monotonic_ns())
            return

        def readable() -> None:
            at_ns = time.monotonic_ns()
            self._forget(descriptor)
            died(at_ns)

        self._pidfds.add(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, readable)

    def _forget(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        self._pidfds.discard(descriptor)
        os.close(descriptor)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rank: Rank | None = None
        while line := await _line(reader):
            message = json.loads(line)
            if message["kind"] == "born":
                rank = self._born(message)
                self._writers[rank.pid] = writer
            elif rank is not None:
                _apply(rank, message)
                self.tell(message["kind"], rank)
        if rank is not None:
            self._writers.pop(rank.pid, None)
        writer.close()

    def _born(self, message: dict[str, Any]) -> Rank:
        pid = message["pid"]
        try:
            exec_ns = exec_time_ns(pid)
        except ProcessLookupError:
            exec_ns = message["ns"]
        names = ("node", "rank", "local_rank", "generation", "world_size")
        rank = Rank(pid=pid, exec_ns=exec_ns, **{name: message[name] for name in names})
        self.record.ranks.append(rank)

        def died(at_ns: int) -> None:
            rank.died_ns, rank.exit_code = at_ns, exit_code_of_zombie(pid)
            self.tell("died", rank)

        self._watch(pid, died)
        self.tell("born", rank)
        return rank


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


def _apply(rank: Rank, message: dict[str, Any]) -> None:
    kind, at_ns = message["kind"], message["ns"]
    if kind == "step":
        rank.steps.append((at_ns, message["step"]))
        rank.step_source = message["source"]
    elif kind == "fault":
        rank.struck_ns, rank.struck_where = at_ns, message["where"]
    elif kind == "resumed":
        rank.resumed_ns = at_ns
    elif kind == "torch":
        rank.torch_ns = at_ns
    elif kind == "restored":
        rank.restored_ns = at_ns
    elif kind == "finished":
        rank.finished, rank.digest, rank.sharded = True, message["digest"], message["sharded"]
