"""A whole cluster on loopback: one coordinator, and for each node an agent and a torchrun.

Each node has a run directory and a folder of logs of its own below one private folder. Every process is started
through `launch.py` (dies with the lab) in a session of its own, and carries the lab's id (leftovers.py). Ports:
the coordinator picks its own and says which; its restart takes the same one again. Only a c10d rendezvous needs a
port beforehand: it comes from outside the kernel's ephemeral range and is held against other labs by the name of
an abstract socket, which vanishes with the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ryzen_lab import leftovers, mock_nvml
from ryzen_lab.errors import LabError, NeverHappened
from ryzen_lab.launcher import Launcher
from ryzen_lab.observer import Observer
from ryzen_lab.record import Rank, Service
from ryzen_lab.relay import Relay

RUN_ID = "lab"
START_S_MAX = 60.0
_JOURNAL = "coordinator.sqlite"
_LOG_POLL_S = 0.02
GPU_INTERVAL_S = 1.0
"""Between two looks of an agent at its GPUs: a trial is too short for the default."""
_HOOK = Path(__file__).parent / "hook"
_LAUNCH = Path(__file__).parent / "launch.py"
_PORTS = range(20000, 30000)
_FOREIGN = ("RYZEN_", "TORCHELASTIC_", "OTEL_")
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass
class Layout:
    """What to run, and where."""

    nodes: int
    ranks_per_node: int
    script: list[str]  # what follows torchrun's own options
    spares: int = 0
    min_nodes: int | None = None
    rdzv: str = "ryzen"
    bare: bool = False  # no coordinator, no agents
    launcher: Launcher | None = None  # in torchrun's place; None: torchrun with `rdzv`
    cold: bool = False  # no rank is forked from a process that has imported torch
    preload: str = ""  # modules that such a process imports, too
    steps: int = 0  # of the whole run, as far as the lab knows
    driver: bool = False  # every node has a GPU a rank, of the mock driver
    gpu_interval_s: float | None = GPU_INTERVAL_S  # None: the product's default
    relays: bool = False  # each agent reaches the coordinator by way of one, which can be cut
    environment: dict[str, str] = field(default_factory=dict)  # of the torchruns
    coordinator_environment: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [f"node-{index}" for index in range(self.nodes + self.spares)]


@dataclass
class Node:
    name: str
    index: int
    folder: Path
    agent: Service | None = None
    torchrun: Service | None = None
    relay: Relay | None = None
    driver: mock_nvml.Faults | None = None

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def kernel_log(self) -> Path:
        """What its agent reads in place of /dev/kmsg."""
        return self.folder / "kernel.log"

    @property
    def driver_folder(self) -> Path:
        """Where its agent looks for a GPU driver; mostly there is none."""
        return self.folder / "driver"

    def kernel_says(self, message: str) -> None:
        """One record, as /dev/kmsg gives it: priority, number, microseconds since boot."""
        with self.kernel_log.open("a") as log:
            log.write(f"4,{log.tell()},{time.monotonic_ns() // 1000},-;{message}\n")


class Cluster:
    """Starts, kills and restarts the processes of a lab. All times out; nothing is retried in silence."""

    def __init__(self, layout: Layout, folder: Path, lab_id: str, observer: Observer) -> None:
        self.layout = layout
        self.folder = folder
        self.observer = observer
        self.lab_id = lab_id
        self.nodes = [Node(name, index, folder / f"n{index}") for index, name in enumerate(layout.names)]
        self.work = folder / "work"
        self.work.mkdir()
        self.address = "127.0.0.1:0"
        self.coordinator: Service | None = None
        self._popen: dict[int, subprocess.Popen[bytes]] = {}
        self._held: list[socket.socket] = []
        self._port = 0
        if layout.driver:
            self._install_drivers()

    # ------------------------------------------------------------ start

    async def start_coordinator(self) -> None:
        """Start `ryzen-coordinator serve` and read its address; at a restart the same address again."""
        log = self.folder / "coordinator.log"
        size = log.stat().st_size if log.exists() else 0
        command = [_program("ryzen-coordinator"), "serve", "--listen", self.address]
        command += ["--journal", str(self.folder / _JOURNAL)]
        self.coordinator = self._spawn(
            "coordinator", "", command, log, {**exporting_environment(), **self.layout.coordinator_environment}
        )
        self.address = await self._announced(log, size)
        for node in self.nodes if self.layout.relays else ():
            if node.relay is None:
                node.relay = Relay(lambda: self.address)
                await node.relay.start()

    def start_agent(self, node: Node) -> None:
        node.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [_program("ryzen-agent"), "--node-rank", str(node.index), "--node", node.name]
        coordinator = node.relay.address if node.relay is not None else self.address
        command += ["--coordinator", coordinator, "--run-dir", str(node.run_dir), "--address", "127.0.0.1"]
        command += ["--kmsg-path", str(node.kernel_log)]
        if self.layout.gpu_interval_s is not None:
            command += ["--gpu-interval-s", str(self.layout.gpu_interval_s)]
        node.kernel_log.touch()
        libraries = [str(node.driver_folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        environment = {
            **exporting_environment(),
            "RYZEN_RUN_DIR": str(node.run_dir),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        }
        node.agent = self._spawn("agent", node.name, command, node.folder / "agent.log", environment)

    async def start_master(self) -> None:
        """The process of a foreign launcher that is on no node, where it has one; returns once its port is open."""
        launcher = self._launcher(self.nodes[0])
        if launcher is None or not launcher.master:
            return
        service = self._spawn("master", "", list(launcher.master), self.folder / "master.log", {})
        await self.observer.until(
            "the master to listen",
            lambda: _is_open(self._port),
            START_S_MAX,
            lambda: "it has ended" if service.died_ns else "",
        )

    def start_torchrun(self, node: Node) -> None:
        """torchrun, or what the layout has in its place."""
        node.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout, launcher = self.layout, self._launcher(node)
        command = [_program(launcher.program if launcher else "torchrun")]
        command += [f"--nnodes={layout.min_nodes or layout.nodes}:{layout.nodes}"]
        command += [f"--nproc-per-node={layout.ranks_per_node}", "--max-restarts=1000"]
        if launcher is None:
            command += ["--monitor-interval=0.05", f"--rdzv-backend={layout.rdzv}", f"--rdzv-id={RUN_ID}"]
        else:
            command += [*launcher.rendezvous, *launcher.options, *launcher.wrapper]
        path = [str(_HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "RYZEN_RUN_DIR": str(node.run_dir),
            "RYZEN_LAB_NODE": node.name,
            "RYZEN_LAB_SOCKET": str(self.observer.socket_path),
            "PYTHONPATH": os.pathsep.join(path),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
            **(launcher.environment if launcher else {}),
            **self.layout.environment,
        }
        if not layout.cold and not layout.bare:
            command += ["--no-python", _program("ryzen-worker")]
            environment["RYZEN_PRELOAD"] = layout.preload
        log = node.folder / "torchrun.log"
        node.torchrun = self._spawn("torchrun", node.name, [*command, *layout.script], log, environment)

    def node(self, name: str) -> Node:
        return next(each for each in self.nodes if each.name == name)

    # ------------------------------------------------------------ end

    def start_helper(self, command: Sequence[str]) -> int:
        """A process that is no part of the cluster and ends with it; its pid."""
        launcher = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        environment = {**clean_environment(), leftovers.VARIABLE: self.lab_id}
        popen = subprocess.Popen([*launcher, *command], stdin=subprocess.DEVNULL, env=environment)
        self._popen[popen.pid] = popen
        return popen.pid

    def end_helper(self, pid: int) -> None:
        popen = self._popen.pop(pid)
        popen.kill()
        popen.wait()

    def processes_of_node(self, node: Node) -> list[int]:
        """Agent first, so that it cannot report the rest; then torchrun, the ranks, and what they started."""
        services = [each.pid for each in (node.agent, node.torchrun) if each is not None and each.died_ns is None]
        ranks = [each.pid for each in self.observer.record.alive() if each.node == node.name]
        marker = f"RYZEN_RUN_DIR={node.run_dir}".encode()
        others = [pid for pid in leftovers.processes_of(self.lab_id) if marker in leftovers.environment(pid)]
        return list(dict.fromkeys([*services, *ranks, *others]))

    async def stop(self) -> None:
        """End the product's processes in the ordinary way, and whatever is left the hard way."""
        running = [each for each in self.observer.record.services if each.died_ns is None]
        for service in running:
            service.ended_by_lab = True
            self._popen[service.pid].send_signal(signal.SIGTERM)
        try:
            await self.observer.until(
                "the end of agents and coordinator", lambda: all(each.died_ns for each in running), 3.0
            )
        except NeverHappened:
            pass  # the next line does not ask
        finally:
            leftovers.end_all(self.lab_id)
            for node in self.nodes:
                if node.relay is not None:
                    node.relay.stop()
            for held in self._held:
                held.close()

    def tails(self, lines: int = 15) -> str:
        """The last lines of every log, for a trial that failed."""
        parts = []
        for log in sorted(self.folder.glob("**/*.log")):
            tail = log.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {log.relative_to(self.folder)}", *tail]))
        return "\n".join(parts)

    def keep_logs(self, target: Path) -> None:
        """Copy every log to `target`, as `n0-torchrun.log` and so on, and the coordinator's journal for its replay."""
        target.mkdir(parents=True, exist_ok=True)
        for log in self.folder.glob("**/*.log"):
            shutil.copy(log, target / "-".join(log.relative_to(self.folder).parts))
        for journal in self.folder.glob(f"{_JOURNAL}*"):  # with its write-ahead log and its log of inputs
            if journal.is_dir():
                shutil.rmtree(target / journal.name, ignore_errors=True)
                shutil.copytree(journal, target / journal.name)
            else:
                shutil.copy(journal, target / journal.name)

    # ------------------------------------------------------------ within

    def _install_drivers(self) -> None:
        """One compiled, a copy a node, since the library finds its readings beside itself."""
        library = mock_nvml.build(self.folder / "driver")
        for node in self.nodes:
            node.driver_folder.mkdir(parents=True)
            shutil.copy(library, node.driver_folder)
            node.driver = mock_nvml.Faults(node.driver_folder)
            node.driver.driver(count=self.layout.ranks_per_node, node=node.index)
        self.observer.listeners.append(self._driver_hears)

    def _driver_hears(self, kind: str, subject: object) -> None:
        """A driver knows which process computes on which GPU: each rank on that of its local rank."""
        if kind == "born" and isinstance(subject, Rank) and (driver := self.node(subject.node).driver) is not None:
            driver.gpu(subject.local_rank, pid=subject.pid)

    def _spawn(self, what: str, node: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> Service:
        log.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env={**clean_environment(), leftovers.VARIABLE: self.lab_id, "TMPDIR": str(scratch), **environment},
                start_new_session=True,
            )
        service = Service(what, node, popen.pid, time.monotonic_ns())
        self._popen[popen.pid] = popen
        self.observer.watch_service(service, popen.wait)
        return service

    async def _announced(self, log: Path, size: int) -> str:
        service = self.coordinator
        deadline = time.monotonic() + START_S_MAX
        while not (address := listening_address(_read(log, size))):
            if (service is not None and service.died_ns) or time.monotonic() > deadline:
                raise LabError(f"the coordinator did not start:\n{_read(log, size)[-2000:]}")
            await asyncio.sleep(_LOG_POLL_S)
        return address

    def _launcher(self, node: Node) -> Launcher | None:
        """What starts this node's ranks, its placeholders filled; None: torchrun with Ryzen's rendezvous."""
        launcher = self.layout.launcher or (Launcher() if self.layout.rdzv == "c10d" else None)
        if launcher is None:
            return None
        self._port = self._port or self._hold_port()
        if launcher.hosts_store():
            host = f"--rdzv-conf=is_host={int(node.index == 0)}"
            launcher = dataclasses.replace(launcher, options=(*launcher.options, host))
        known = {"endpoint": f"127.0.0.1:{self._port}", "port": self._port, "run_id": RUN_ID}
        return launcher.filled({**known, "node": node.index, "nodes": self.layout.nodes})

    def _hold_port(self) -> int:
        for port in random.sample(_PORTS, 200):
            held = socket.socket(socket.AF_UNIX)
            try:
                held.bind(f"\0ryzen-lab-port-{port}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                held.close()
                continue
            self._held.append(held)
            return port
        raise LabError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would reach into the lab from outside."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _RANK_VARIABLES
    }


def exporting_environment() -> dict[str, str]:
    """OpenTelemetry's variables of the caller, for agents and coordinator alone: a trial may be watched."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def listening_address(output: str) -> str:
    """HOST:PORT from the line `listening on HOST:PORT` once it is whole, else ""."""
    for line in output.splitlines(keepends=True):
        if "listening on " in line and line.endswith("\n"):
            return line.split("listening on ")[1].split()[0].rstrip(".,")
    return ""


def _read(log: Path, offset: int) -> str:
    return log.read_bytes()[offset:].decode(errors="replace")


def _is_open(port: int) -> bool:
    """Whether something listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _program(name: str) -> str:
    if os.sep in name:
        return name
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LabError(f"{name} is neither beside {sys.executable} nor on PATH: is ryzen installed with its extras?")
    return found
