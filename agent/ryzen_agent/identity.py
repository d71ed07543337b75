"""Who this node is: its name, its boot, and where other nodes reach it."""

from __future__ import annotations

import re
import socket
import threading
import uuid
from pathlib import Path

import ryzen_protos
from ryzen_agent.settings import AgentSettings, split_target
from ryzen_protos.v1 import node_pb2

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_DRIVER_WAIT_S = 1.0


def hello(settings: AgentSettings) -> node_pb2.NodeHello:
    """What the node says of itself at the begin of each stream. The session is new at each start of the agent."""
    host = socket.gethostname()
    return node_pb2.NodeHello(
        node=settings.node or name_from_host(host),
        session=uuid.uuid4().hex,
        boot_id=boot_id(),
        host=host,
        address=settings.address or address_towards(*split_target(settings.coordinator)),
        node_rank=settings.node_rank,
        protocol=ryzen_protos.PROTOCOL,
        version=ryzen_protos.__version__,
        labels=settings.labels,
        device_model=settings.device_model or device_model(),
    )


def name_from_host(host: str) -> str:
    """The host name with every character that a node name may not have as '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host)[:64].strip(".") or "node"


def boot_id(path: Path = BOOT_ID) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def device_model(folder: Path = NVIDIA_GPUS) -> str:
    """The model of the GPUs by the driver's own files; "" where there is none, or the driver does not answer.

    The first one's: a node with two models is rare. `information` has lines like "Model: \t\t NVIDIA H100 80GB HBM3".
    """
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.append(_read_model(folder)), daemon=True)
    reading.start()  # a driver that hangs holds whoever reads its files, and must not hold the agent
    reading.join(_DRIVER_WAIT_S)
    return found[0] if found else ""


def _read_model(folder: Path) -> str:
    try:
        found = sorted(folder.glob("*/information"))
        lines = found[0].read_text(errors="replace").splitlines() if found else []
    except OSError:
        return ""
    named = [value.strip() for line in lines for key, _, value in [line.partition(":")] if key.strip() == "Model"]
    return "".join(each for each in named[0] if each.isprintable())[:128] if named else ""


def address_towards(host: str, port: int) -> str:
    """The local address that packets to the coordinator leave from; the host name where there is no route now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # a datagram socket: nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
