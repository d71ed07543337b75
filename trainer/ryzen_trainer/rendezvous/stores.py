"""One fresh TCPStore a generation, listening before anyone hears of it.

Stock torchrun shares one store over all rounds, so a quick rank reads the addresses of the round before and
the new world dies at its start; a client that comes before its store listens loses 0.35-0.7 s to backoff.
Every handler therefore offers a new listening store with each join, and the one of group rank 0 is used.
"""

from __future__ import annotations

import ipaddress
import socket
from datetime import timedelta

from torch.distributed import DistError, Store, TCPStore

# Both are private names of torch 2.13; `release_exit_barrier` says what they are for.
from torch.distributed.elastic.agent.server.api import _TERMINAL_STATE_SYNC_ID
from torch.distributed.elastic.utils.store import _LAST_MEMBER_CHECKIN

STORE_TIMEOUT = timedelta(seconds=60)
"""For torchrun's own exchange of roles. Ranks choose their own time-out. Lower fails a slow node's start;
higher keeps a torchrun longer in a world whose leader died while it formed."""


class StoreError(ConnectionError):
    """The generation's store does not answer: its leader died after the world was formed. Join again."""


def listen(address: str) -> TCPStore:
    """A store of our own on a free port of `address` only. Raises OSError where that cannot be bound."""
    family = socket.AF_INET6 if _is_ipv6(address) else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    port = listener.getsockname()[1]
    return TCPStore(
        address,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=STORE_TIMEOUT,
        master_listen_fd=listener.detach(),
    )


def connect(host: str, port: int, timeout: timedelta = STORE_TIMEOUT) -> TCPStore:
    """A client of another node's store. Raises StoreError."""
    try:
        return TCPStore(host, port, is_master=False, timeout=timeout)
    except (DistError, RuntimeError) as error:
        raise StoreError(f"store {host}:{port} does not answer: {str(error).splitlines()[0]}") from error


def prefix(generation: int) -> str:
    """Keys of torchrun itself, apart from those of the ranks in the same store."""
    return f"ryzen/{generation}"


def release_exit_barrier(store: Store) -> None:
    """Let every torchrun of this generation go that waits for the others at the end of the job.

    In its exit barrier torchrun polls nothing for up to 300 s. When the job is over while a node is missing
    (its ranks failed after the others had finished), nobody else would ever set the key they wait for.
    """
    store.set(f"{_TERMINAL_STATE_SYNC_ID}{_LAST_MEMBER_CHECKIN}", "<val_ignored>")


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False
