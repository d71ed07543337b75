"""The one stream to the coordinator. Reconnects for ever; training is not touched by anything that happens here.

Each new stream begins with a hello and the full observed state. After that an update goes out at once when the agent
asks for it (`dirty`): when something that matters has changed, and once a second. Updates are levels, so nothing is
queued: the message is made at the moment it is sent. Of a job that steps it holds what is new (news.py).

The coordinator answers each hello with a desired state. A refusal (token, version) is its own words in one
line; it is retried slowly, as a restart or an upgrade of the coordinator may cure it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Protocol

import grpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential, wait_random

from ryzen_agent.errors import CoordinatorLostError, CoordinatorRefusedError
from ryzen_protos.v1 import node_pb2, node_pb2_grpc

RETRY_S_MIN, RETRY_S_MAX = 0.1, 1.0
REFUSED_RETRY_S = 5.0
HELLO_WAIT_S = 10.0
"""For the answer to a hello. Lower: a loaded coordinator is given up too early; higher: a hung one is held on to."""
LAST_WORDS_S = 1.0
"""For the reason why a stream has ended. Lower: it is not known; higher: the next try comes later."""

REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
}

_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
]

_WAIT = wait_exponential(multiplier=RETRY_S_MIN, max=RETRY_S_MAX * 0.8) + wait_random(0, RETRY_S_MAX * 0.2)
"""0.1, 0.2, 0.4, 0.8 s and a little by chance, so that agents do not come back in step."""

log = logging.getLogger(__name__)


class Node(Protocol):
    """What the stream needs of the agent."""

    def update(self, first: bool) -> node_pb2.NodeUpdate: ...

    def desired(self, state: node_pb2.DesiredState) -> None: ...

    def connection_changed(self) -> None: ...

    def must_go_on(self) -> bool:
        """Whether a refusal at the very first contact must not end the agent: something lives under it."""


class Upstream:
    """See the module's header."""

    def __init__(self, target: str, token: str | None, node: Node) -> None:
        self.target = target
        self.connected = False
        self.last_error = "not yet tried"
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._node = node
        self._dirty = asyncio.Event()
        self._ever = False
        self._said = ""
        self._leaving: str | None = None
        self._left = asyncio.Event()

    def dirty(self) -> None:
        """Something that matters has changed, or a second has gone by: tell it now."""
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled, or `leave`. Raises CoordinatorRefusedError at a first contact with nothing to protect."""
        while self._leaving is None:
            async for attempt in AsyncRetrying(
                wait=_WAIT, retry=retry_if_exception_type(CoordinatorLostError), reraise=True
            ):
                with attempt:
                    await self._attempt()

    async def leave(self, reason: str, deadline_s: float) -> None:
        """Say goodbye and wait until the coordinator has ended the stream, but not beyond `deadline_s`.

        Ended from here, the stream could take the goodbye with it: what a server has not yet read is dropped.
        """
        self._leaving = reason
        if self.connected:
            self._dirty.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._left.wait()

    async def _attempt(self) -> None:
        """One stream to its end. Raises CoordinatorLostError where it got no answer or broke at once: wait longer."""
        if self._leaving is not None:
            return
        answered, began_s = False, time.monotonic()
        try:
            async with grpc.aio.insecure_channel(self.target, options=_CHANNEL) as channel:
                call = node_pb2_grpc.NodeServiceStub(channel).Attach(metadata=self._metadata)
                try:
                    answered = await self._serve(call)
                finally:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            answered = self.connected
            await self._broken(error)
        finally:
            self._set_connected(False)
        if not answered or time.monotonic() - began_s < RETRY_S_MAX:
            raise CoordinatorLostError(self.last_error)

    async def _serve(self, call: grpc.aio.StreamStreamCall) -> bool:
        """Read and write until either ends. True where the coordinator has answered."""
        both = [asyncio.create_task(self._read(call)), asyncio.create_task(self._write(call))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not both[0].done():  # the writer sees a broken stream first, the reader knows why it broke
                await asyncio.wait(both[:1], timeout=LAST_WORDS_S)
            answered = self.connected
            if both[0].done():
                both[0].result()
            elif both[1].done():
                both[1].result()
            return answered
        finally:
            if self._leaving is not None:
                self._left.set()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _read(self, call: grpc.aio.StreamStreamCall) -> None:
        try:
            async with asyncio.timeout(HELLO_WAIT_S):
                state = await call.read()
        except TimeoutError:
            self._note("it does not answer")
            return
        while state is not grpc.aio.EOF:
            self._set_connected(True)
            self._node.desired(state)
            state = await call.read()

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        first = True
        while True:
            self._dirty.clear()
            update = self._node.update(first)
            first = False
            leaving = self._leaving  # it may be asked for while the message is being written
            if leaving is not None:
                update.goodbye.reason = leaving
            try:
                await call.write(update)
            except asyncio.InvalidStateError:
                return  # the stream has ended; the reader knows why
            if leaving is not None:
                await call.done_writing()
                return
            await self._dirty.wait()

    async def _broken(self, error: grpc.aio.AioRpcError) -> None:
        details = (error.details() or error.code().name).partition("\n")[0]
        if error.code() not in REFUSALS:
            self._note(details)
            return
        self._set_connected(False)
        if not self._ever and not self._node.must_go_on():
            raise CoordinatorRefusedError(f"coordinator {self.target}: {details}") from None
        if self._said != details:
            self._said = details
            log.error("coordinator %s: %s: trying on every %d s", self.target, details, REFUSED_RETRY_S)
        self.last_error = details
        await asyncio.sleep(REFUSED_RETRY_S)

    def _set_connected(self, connected: bool) -> None:
        if connected == self.connected:
            return
        self.connected = connected
        if connected:
            log.info("coordinator %s: connected", self.target)
            self._ever, self.last_error, self._said = True, "", ""
        elif self._leaving is None:
            self._note(self.last_error or "the stream ended")
        self._node.connection_changed()

    def _note(self, what: str) -> None:
        """One line an outage, not one an attempt."""
        self.last_error = what
        if not self._said:
            self._said = what
            log.warning("coordinator %s cannot be reached (%s): trying on, training is not affected", self.target, what)
