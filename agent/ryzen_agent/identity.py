"""Who this node is: its name, its boot, and where other nodes reach it."""

from __future__ import annotations

import re
import socket
import uuid
from pathlib import Path

import ryzen_protos
from ryzen_agent.settings import AgentSettings, split_target
from ryzen_protos.v1 import node_pb2

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
    )


def name_from_host(host: str) -> str:
    """The host name with every character that a node name may not have as '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host)[:64].strip(".") or "node"


def boot_id(path: Path = BOOT_ID) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def address_towards(host: str, port: int) -> str:
    """The local address that packets to the coordinator leave from; the host name where there is no route now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # a datagram socket: nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
