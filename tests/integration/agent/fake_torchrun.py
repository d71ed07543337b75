"""What torchrun with our handler does, without torch: a script that the tests start.

Arguments: RUN_ID RANKS FOLDER. Like torchrun it polls every 0.1 s, stops ranks by SIGTERM and up to 30 s of
patience, starts each rank in a session of its own, and reaps only when it polls.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

import ryzen_protos
from ryzen_protos import run_dir
from ryzen_protos.beat_records import process_start_ticks
from ryzen_protos.v1 import local_pb2, local_pb2_grpc, node_pb2

Phase = node_pb2.ObservedJob
Place = node_pb2.DesiredJob
PATIENCE_S = 30.0


class FakeTorchrun:
    def __init__(self, run_id: str, ranks: int, folder: Path) -> None:
        self.run_id, self.local, self.folder = run_id, ranks, folder
        self.changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.order = local_pb2.HandlerOrder()
        self.phase, self.generation, self.seen, self.taken, self.join_id = Phase.RUNNING, 0, 0, 0, 0
        self.failed = False
        self.closed = threading.Event()
        self.children: list[subprocess.Popen[bytes]] = []
        threading.Thread(target=self.link, daemon=True).start()

    def link(self) -> None:
        while not self.closed.is_set():
            with grpc.insecure_channel(
                f"unix:{run_dir.agent_socket(run_dir.default_path())}",
                options=[("grpc.use_local_subchannel_pool", 1)],
            ) as channel:
                try:
                    for order in local_pb2_grpc.LocalAgentStub(channel).Rendezvous(self.updates()):
                        if order.generation >= self.order.generation:
                            self.order = order
                            self.seen = max(self.seen, order.generation)
                            self.changes.put(None)
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                        sys.stderr.write(f"refused: {error.details()}\n")
                        os._exit(2)
            self.closed.wait(0.1)

    def updates(self) -> Iterator[local_pb2.HandlerUpdate]:
        while not self.closed.is_set():
            yield self.snapshot()
            try:
                self.changes.get(timeout=1.0)
            except queue.Empty:
                continue
        yield self.snapshot()

    def snapshot(self) -> local_pb2.HandlerUpdate:
        update = local_pb2.HandlerUpdate(
            run_id=self.run_id, torchrun_pid=os.getpid(), torchrun_start_ticks=process_start_ticks(os.getpid()),
            shape=node_pb2.JobShape(min_nodes=1, max_nodes=2, ranks_per_node=self.local),
            phase=self.phase, generation=self.generation, seen_generation=self.seen, taken_generation=self.taken,
            join_id=self.join_id, version="test", failed=self.failed,
            protocol=int(os.environ.get("FAKE_PROTOCOL", ryzen_protos.LOCAL_PROTOCOL)),
        )  # fmt: skip
        if self.phase == Phase.JOINING:
            update.store.host, update.store.port = self.order.address or "127.0.0.1", 12345
        return update

    def set(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.changes.put(None)

    def run(self) -> int:
        while True:
            world = self.join()
            if world is None:
                return self.order.exit_code
            self.start(world)
            if self.monitor():
                self.set(phase=Phase.CLOSED)
                return 0

    def join(self) -> node_pb2.World | None:
        self.set(phase=Phase.JOINING, join_id=self.join_id + 1)
        while True:
            order = self.order
            if order.place == Place.DISMISSED:
                return None
            if order.world.generation > self.generation and order.world.join_id == self.join_id:
                return order.world
            time.sleep(0.005)

    def start(self, world: node_pb2.World) -> None:
        self.set(phase=Phase.RUNNING, generation=world.generation)
        for local in range(self.local):
            rank = world.group_rank * self.local + local
            environ = {
                **os.environ, "RYZEN_GENERATION": str(world.generation), "TORCHELASTIC_RUN_ID": self.run_id,
                "RANK": str(rank), "LOCAL_RANK": str(local), "FOLDER": str(self.folder),
                "WORLD_SIZE": str(self.local),
            }  # fmt: skip
            script = os.environ.get("RANK_SCRIPT", "fake_rank.py")
            command = [sys.executable, str(Path(__file__).with_name(script))]
            if os.environ.get("WARM"):
                command = [str(Path(sys.executable).with_name("ryzen-worker")), *command[1:]]
            if os.environ.get("WRAPPED"):
                command = ["/bin/sh", "-c", " ".join(command) + "; exit $?"]
            self.children.append(subprocess.Popen(command, env=environ, start_new_session=True))

    def monitor(self) -> bool:
        """True where all ranks ended well."""
        while True:
            codes = [child.poll() for child in self.children]
            if all(code == 0 for code in codes):
                return True
            if any(code not in (None, 0) for code in codes):
                break
            if self.order.go and self.order.generation > self.generation:
                self.set(taken=self.order.generation)
                break
            time.sleep(0.1)
        self.stop()
        return False

    def stop(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self.children:
                if child.poll() is None:
                    child.send_signal(number)
            while any(child.poll() is None for child in self.children) and time.monotonic() < deadline:
                time.sleep(0.01)
        self.children.clear()


def main() -> None:
    # As a wrapper or an operator may have set it for torchrun itself: it must not look like a rank.
    torchrun = FakeTorchrun(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    try:
        code = torchrun.run()
    finally:
        torchrun.stop()
    torchrun.phase = Phase.CLOSED
    torchrun.closed.set()
    torchrun.changes.put(None)
    time.sleep(0.05)
    sys.exit(code)


if __name__ == "__main__":
    main()
