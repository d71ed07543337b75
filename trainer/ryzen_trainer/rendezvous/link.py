"""The stream between a handler and its node's agent, in a daemon thread.

Levels both ways: the whole state of the handler goes out at each change and now and then, the newest order
comes in. When the agent dies the link reconnects for ever and training never notices; only a handler that
has never met its agent gives up, so that a job without an agent ends at once and with one clear line.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from ryzen_protos.v1 import local_pb2, local_pb2_grpc

RECONNECT_S = 0.2
REFUSED_RECONNECT_S = 5.0
REFRESH_S = 10.0
"""Changes go at once and a broken stream is noticed by gRPC: this is only against what nobody thought of."""

_LOCAL = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


class AgentLink:
    """Keeps `snapshot()` known to the agent and hands its orders to `on_order`, on the link's own thread."""

    def __init__(
        self,
        socket_path: Path,
        snapshot: Callable[[], local_pb2.HandlerUpdate],
        on_order: Callable[[local_pb2.HandlerOrder], None],
        on_refusal: Callable[[str], None],
    ) -> None:
        self._target = f"unix:{socket_path}"
        self._snapshot = snapshot
        self._on_order = on_order
        self._on_refusal = on_refusal
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._delivered = threading.Event()
        self.met = threading.Event()
        """Set once an agent has answered."""
        self._thread = threading.Thread(target=self._run, name="ryzen-agent-link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """The snapshot differs from the one sent last. Never blocks: torchrun's monitor loop calls it."""
        self._changes.put(None)

    def close(self, deadline_s: float) -> None:
        """Say a last word, for at most `deadline_s`, and stop."""
        self._closed.set()
        self._changes.put(None)
        if self.met.is_set():
            self._delivered.wait(deadline_s)

    def _run(self) -> None:
        while not self._closed.is_set():
            refused = self._one_stream()
            if self._closed.wait(REFUSED_RECONNECT_S if refused else RECONNECT_S):
                return

    def _one_stream(self) -> bool:
        """Serve until the stream ends. True where the agent refused us and a quick retry cannot help."""
        with grpc.insecure_channel(self._target, options=_LOCAL) as channel:
            calls = local_pb2_grpc.LocalAgentStub(channel).Rendezvous(self._updates())
            try:
                for order in calls:
                    self.met.set()
                    self._on_order(order)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                    self._on_refusal(error.details())
                    return True
        return False

    def _updates(self) -> Iterator[local_pb2.HandlerUpdate]:
        while not self._closed.is_set():
            yield self._snapshot()
            try:
                self._changes.get(timeout=REFRESH_S)
                while True:
                    self._changes.get_nowait()
            except queue.Empty:
                continue
        yield self._snapshot()
        self._delivered.set()
