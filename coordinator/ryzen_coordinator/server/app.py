"""The server as one object: journal, tokens, address, services. `serve` runs it until a signal."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from ryzen_coordinator.errors import ListenError
from ryzen_coordinator.journal import Journal
from ryzen_coordinator.server.auth import Tokens, make_tokens, read_tokens
from ryzen_coordinator.server.driver import Driver
from ryzen_coordinator.server.node_service import NodeService
from ryzen_coordinator.server.operator_service import OperatorService
from ryzen_coordinator.settings import ServeSettings
from ryzen_protos.v1 import node_pb2_grpc, operator_pb2_grpc
from ryzen_telemetry import pipeline, resource
from ryzen_telemetry.pipeline import Telemetry
from ryzen_telemetry.settings import plan

_log = structlog.get_logger("ryzen_coordinator")

_GRACE_S = 0.5
_COLLECT_AFTER = 100_000

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second coordinator on the port is an error, not a coin toss
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.http2.bdp_probe", 0),  # a ping for every report, half of what receiving one costs (measured: 115 -> 65 us)
)


@dataclass(slots=True)
class App:
    """A coordinator that listens. `address` is HOST:PORT with the port that was really bound."""

    server: grpc.aio.Server
    driver: Driver
    address: str
    work: asyncio.Task[None]
    telemetry: Telemetry | None = None

    async def stop(self) -> None:
        """End every stream, write what is decided, close the journal."""
        closing = [] if self.telemetry is None else [asyncio.to_thread(self.telemetry.close)]
        await asyncio.gather(self.server.stop(_GRACE_S), *closing)
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)
        await self.driver.close()


async def start(settings: ServeSettings) -> App:
    """Open the journal, listen. Raises JournalError, TokenError, ListenError, SettingsError."""
    host, port = split_address(settings.listen)
    check_free(host, port)
    tokens = choose_tokens(settings.token_file, settings.state_dir, host)
    wanted = plan(settings)
    journal = Journal(settings.journal_path())
    telemetry = pipeline.start(wanted, "coordinator", resource.attributes("coordinator"))
    driver = Driver(settings.core(), journal, settings.replay_bytes, telemetry)
    server = grpc.aio.server(options=OPTIONS)
    node_pb2_grpc.add_NodeServiceServicer_to_server(NodeService(driver, tokens), server)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(
        OperatorService(driver, tokens, settings.gpu_hour_price), server
    )
    try:
        bound = server.add_insecure_port(join_address(host, port))
    except RuntimeError as error:
        driver.journal.close()
        raise ListenError(f"cannot listen on {settings.listen}: is another coordinator there? ({error})") from error
    await server.start()
    return App(server, driver, join_address(host, bound), asyncio.create_task(driver.run()), telemetry)


async def serve(settings: ServeSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = await start(settings)
    _collect_rarely()
    print(f"listening on {app.address}", flush=True)  # noqa: T201 - what scripts wait for
    _log.info("listening", address=app.address, journal=str(settings.journal_path()))
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait({stop, app.work}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if app.work.done():
        app.work.result()
    await app.stop()


def _collect_rarely() -> None:
    """Reports are trees: they go when the next one replaces them. Looking for cycles in 60,000 new objects a second
    took a fifth of what 2,048 nodes cost (measured); those that gRPC and asyncio leave behind are few."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 10)


def choose_tokens(file: Path | None, state_dir: Path, host: str) -> Tokens | None:
    """The tokens in force: those of `file`; beyond loopback those of the state folder, made at the first start."""
    if file is None and is_loopback(host):
        return None
    path = file if file is not None else state_dir / "tokens"
    if path.exists():
        return read_tokens(path)
    tokens = make_tokens(path)
    print(f"tokens made in {path} (keep it private)", flush=True)  # noqa: T201
    print(f"agents join with RYZEN_TOKEN={tokens.node}", flush=True)  # noqa: T201
    return tokens


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT or [V6]:PORT. Raises ListenError."""
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not bare or not port.isdigit() or int(port) > 65535 or (":" in bare and bare == host):
        raise ListenError(f"{text!r} is not HOST:PORT (an IPv6 host goes in brackets: [::1]:7700)")
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_free(host: str, port: int) -> None:
    """Raises ListenError, in words, if the address cannot be bound; gRPC would only say so in its own log."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = ": another coordinator is there" if error.errno == errno.EADDRINUSE else ""
        raise ListenError(f"cannot listen on {join_address(host, port)}: {error.strerror}{hint}") from error


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
