"""The state machine that torchrun calls.

torchrun's main thread calls `next_rendezvous` (wait for a world), `num_nodes_waiting` (ten times a second: is
there a newer world to go to?) and `shutdown`. The link's thread brings orders from the agent. Both meet in a
few attributes under one condition variable; `num_nodes_waiting` reads one attribute and takes no lock.

A restart of a healthy node runs in two phases. An order announces generation g; the handler reports that it
has seen it and still answers 0. Once every live node has seen it the order says `go`, the handler answers 1,
torchrun stops its ranks and comes back to `next_rendezvous`. Without the first phase one node's teardown
would crash the ranks of another before its torchrun has polled, and cost that torchrun one of its restarts.

Never raise RendezvousGracefulExitError or RendezvousClosedError here: torchrun 2.13 crashes on the first and
gives the job up on the second. A node that is not wanted now waits inside `next_rendezvous`; at the end of
the job it leaves by SystemExit, which torchrun passes on as its exit code.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta
from pathlib import Path

from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo

import ryzen_protos
from ryzen_protos import run_dir
from ryzen_protos.beat_records import process_start_ticks
from ryzen_protos.v1 import local_pb2, node_pb2
from ryzen_trainer.rendezvous import arguments as torchrun_arguments
from ryzen_trainer.rendezvous import stores
from ryzen_trainer.rendezvous.arguments import Arguments, fail, say
from ryzen_trainer.rendezvous.link import AgentLink
from ryzen_trainer.run import RESUME_AT_MOST
from ryzen_trainer.worker.founding import AFTER_RESTART_S, AGAIN_S, Founding

BACKEND = "ryzen"
LAST_WORD_S = 0.5
LISTEN_AGAIN_S = 1.0
BARRIER_GRACE_S = 1.0
"""After a good end every torchrun comes to the exit barrier by itself, a poll interval apart. Lower: the one that
hosts the store may leave before a slower one has looked. Higher: a node lost in the last second holds up the rest."""

FLIGHT_RECORDER = ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE")
"""The name and the older one; what the user has set stands, "0" for off included."""

FLIGHT_RECORDER_ENTRIES = "512"
"""Several steps of a model with tens of buckets. Fewer: the oldest that hangs may be overwritten; more: memory of the
rank, and a longer answer while it is looked at."""

_Phase = node_pb2.ObservedJob
_Place = node_pb2.DesiredJob


def create(parameters: RendezvousParameters) -> RyzenRendezvousHandler:
    """The handler for one torchrun, connected to its node's agent; SystemExit(2) with one line where it cannot be."""
    arguments = torchrun_arguments.read(parameters)
    try:
        folder = run_dir.make(run_dir.default_path())  # an agent of root serves a user's folder once it is there
        socket_path = run_dir.agent_socket(folder)
    except run_dir.RunDirError as error:
        fail(str(error))
    handler = RyzenRendezvousHandler(arguments, folder, socket_path)
    handler.meet_agent()
    if line := torchrun_arguments.advice(arguments):
        say(line)
    return handler


class RyzenRendezvousHandler(RendezvousHandler):
    """One torchrun's side of the rendezvous. See the module's header."""

    def __init__(self, arguments: Arguments, folder: Path, socket_path: Path) -> None:
        self._arguments = arguments
        self._run_dir = folder
        self._socket_path = socket_path
        self._pid = os.getpid()
        self._start_ticks = process_start_ticks(self._pid)
        self._changed = threading.Condition()
        self._phase = _Phase.RUNNING
        self._generation = 0
        self._seen = 0
        self._taken = 0
        self._join_id = 0
        self._order = local_pb2.HandlerOrder()
        self._refusal = ""
        self._failed = False
        self._offered: TCPStore | None = None  # listens for the generation to come
        self._current: TCPStore | None = None  # of the generation that runs; its ranks are clients
        self._releasing: threading.Timer | None = None
        self._founding = Founding(arguments.worker, arguments.run_id)
        self._link = AgentLink(socket_path, self._snapshot, self._on_order, self._on_refusal)

    # ------------------------------------------------------------- called by torchrun

    def get_backend(self) -> str:
        return BACKEND

    def get_run_id(self) -> str:
        return self._arguments.run_id

    @property
    def use_agent_store(self) -> bool:
        """Ranks are clients of the generation's store: it outlives rank 0 and its port was never free to take."""
        return True

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        return None

    def num_nodes_waiting(self) -> int:
        """1 when torchrun shall stop its ranks and come to `next_rendezvous`. A read of local variables."""
        order = self._order
        if not (order.go or order.place == _Place.DISMISSED) or order.generation <= self._generation:
            return 0
        if self._taken < order.generation:
            self._taken = order.generation
            self._link.changed()
        return 1

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait for the next world that this node belongs to. SystemExit when the job is over for it."""
        while True:
            world = self._join()
            try:
                return self._enter(world)
            except stores.StoreError as error:
                say(f"generation {world.generation}: {error}; joining again")

    def shutdown(self) -> bool:
        """Called by torchrun as it ends, within the handling of the exception if it ends by one."""
        error = sys.exc_info()[1]
        with self._changed:
            self._failed = error is not None and not (isinstance(error, SystemExit) and not error.code)
            self._phase = _Phase.CLOSED
        self._link.close(LAST_WORD_S)
        return True

    # ------------------------------------------------------------- the agent's side

    def meet_agent(self) -> None:
        """Connect, or end torchrun with one line: a job without its agent would only seem to be protected."""
        self._link.start()
        if not self._link.met.wait(self._arguments.agent_wait_s):
            fail(
                self._refusal
                or f"no ryzen-agent answers at {self._socket_path}: start `ryzen-agent` on this node first "
                f"(same user and {run_dir.ENVIRONMENT})"
            )

    def _on_order(self, order: local_pb2.HandlerOrder) -> None:
        with self._changed:
            if order.generation < self._order.generation:
                return  # an agent that has just come back knows less than we do
            reason_is_new = order.reason != self._order.reason
            self._order = order
            news = order.generation > max(self._seen, self._generation)
            self._seen = max(self._seen, order.generation)
            self._changed.notify_all()
            waiting = self._phase == _Phase.JOINING
        if news:
            self._link.changed()
        if waiting and reason_is_new and order.reason:
            say(order.reason)
        if order.place == _Place.DISMISSED and not waiting:
            self._release_later(0.0 if order.exit_code else BARRIER_GRACE_S)

    def _on_refusal(self, details: str) -> None:
        if details != self._refusal:
            self._refusal = details
            say(details)

    def _snapshot(self) -> local_pb2.HandlerUpdate:
        with self._changed:
            update = local_pb2.HandlerUpdate(
                run_id=self._arguments.run_id,
                torchrun_pid=self._pid,
                torchrun_start_ticks=self._start_ticks,
                shape=self._shape(),
                phase=self._phase,
                generation=self._generation,
                seen_generation=self._seen,
                taken_generation=self._taken,
                join_id=self._join_id,
                protocol=ryzen_protos.LOCAL_PROTOCOL,
                version=ryzen_protos.__version__,
                failed=self._failed,
            )
            if self._phase == _Phase.JOINING and self._offered is not None:
                update.store.CopyFrom(node_pb2.Endpoint(host=self._offered.host, port=self._offered.port))
            return update

    def _shape(self) -> node_pb2.JobShape:
        return node_pb2.JobShape(
            min_nodes=self._arguments.min_nodes,
            max_nodes=self._arguments.max_nodes,
            ranks_per_node=self._arguments.ranks_per_node,
            max_restarts=self._arguments.max_restarts,
            options=self._arguments.options,
        )

    # ------------------------------------------------------------- the rendezvous itself

    def _join(self) -> node_pb2.World:
        """Offer a store, say that this torchrun is free, and wait for the world that answers this join."""
        with self._changed:
            self._offered = self._listen()
            self._join_id += 1
            self._phase = _Phase.JOINING
            self._link.changed()
        order = self._wait_for_answer()
        if order.place == _Place.DISMISSED:
            self._dismiss(order)
        return order.world

    def _wait_for_answer(self) -> local_pb2.HandlerOrder:
        """Meanwhile the nursery that the ranks will come from imports torch, and is looked after while this lasts."""
        self._export_lasting()
        wait_s = AFTER_RESTART_S if self._generation else 0.0
        while True:
            with self._changed:
                if self._changed.wait_for(self._is_answered, wait_s):
                    return self._order
            self._founding.found()
            wait_s = AGAIN_S

    def _listen(self) -> TCPStore:
        """A fresh store on this node's address; an address that is gone for a while must not end torchrun."""
        said = ""
        while True:
            address = self._order.address or "127.0.0.1"
            try:
                return stores.listen(address)
            except OSError as error:
                line = f"cannot listen on this node's address {address} ({error.strerror or error}); trying again"
                if line != said:
                    say(line)
                said = line
            self._changed.wait(LISTEN_AGAIN_S)

    def _is_answered(self) -> bool:
        order = self._order
        if order.place == _Place.DISMISSED:
            return order.generation >= self._generation
        world = order.world
        return world.generation > self._generation and world.join_id == self._join_id

    def _dismiss(self, order: local_pb2.HandlerOrder) -> None:
        if order.exit_code or order.reason:
            say(order.reason or f"dismissed with exit code {order.exit_code}")
        raise SystemExit(order.exit_code)

    def _enter(self, world: node_pb2.World) -> RendezvousInfo:
        """Take the place in `world`. Raises StoreError where its leader is already gone."""
        offered, endpoint = self._offered, world.store
        assert offered is not None  # noqa: S101 - _join made it
        # Usually group rank 0's, but any member's will do: one that was offered to an earlier world is not fresh.
        ours = (offered.host, offered.port) == (endpoint.host, endpoint.port)
        store = offered if ours else stores.connect(endpoint.host, endpoint.port)
        self._export(world)
        with self._changed:
            self._current, self._offered = store, None
            self._generation = world.generation
            self._seen = max(self._seen, world.generation)
            self._phase = _Phase.RUNNING
        self._link.changed()
        return RendezvousInfo(
            PrefixStore(stores.prefix(world.generation), store),
            world.group_rank,
            world.size,
            RendezvousStoreInfo(world.store.host, world.store.port),
        )

    def _export(self, world: node_pb2.World) -> None:
        """Environment that torchrun copies into the ranks it starts next."""
        self._export_lasting()
        os.environ["RYZEN_GENERATION"] = str(world.generation)
        os.environ["RYZEN_NODE"] = self._order.node
        # Equal nodes can compute their ranks without asking each other: no store traffic that a node dying
        # at this moment could block. torchrun reads the variable at each rendezvous.
        if world.uniform:
            os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"
        else:
            os.environ.pop("TORCH_ELASTIC_WORKER_IDENTICAL", None)
        if world.HasField("resume_at_most"):
            os.environ[RESUME_AT_MOST] = str(world.resume_at_most)
        else:
            os.environ.pop(RESUME_AT_MOST, None)

    def _export_lasting(self) -> None:
        """What is the same in every generation; a nursery that is founded before has it, too."""
        os.environ[run_dir.ENVIRONMENT] = str(self._run_dir)
        if not any(os.environ.get(name) for name in FLIGHT_RECORDER):
            os.environ[FLIGHT_RECORDER[0]] = FLIGHT_RECORDER_ENTRIES

    def _release_later(self, seconds: float) -> None:
        if self._releasing is None:
            self._releasing = threading.Timer(seconds, self._leave_exit_barrier)
            self._releasing.daemon = True
            self._releasing.start()

    def _leave_exit_barrier(self) -> None:
        """The job is over: wake every torchrun of this generation that waits for others in its exit barrier."""
        current = self._current
        if current is None:
            return
        try:
            # A client of its own: the main thread's one is locked inside its wait.
            client = stores.connect(current.host, current.port, timedelta(seconds=LAST_WORD_S))
            stores.release_exit_barrier(PrefixStore(stores.prefix(self._generation), client))
        except stores.StoreError:
            return  # the leader has left already, so nobody waits for it
