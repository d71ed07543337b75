"""From a line in the kernel log to the line in which a real coordinator logs what it has made of it."""

from __future__ import annotations

import asyncio
import os
import time

from ryzen_lab.cluster import Cluster, Node
from ryzen_lab.errors import NeverHappened
from ryzen_lab.mock_nvml import Faults

LINES = 50
APART_S = 0.1
POLL_S = 0.001
PATIENCE_S = 10.0
_PID = 4_000_000
"""Above all of a machine: each line names another process, so that none is folded into the one before."""


async def delays_s(cluster: Cluster, node: Node) -> list[float]:
    """Of each of `LINES` lines, to `POLL_S`. Xid 43 asks nobody to do anything. Raises NeverHappened."""
    found = []
    with (cluster.folder / "coordinator.log").open() as log:
        log.seek(0, os.SEEK_END)
        for number in range(1, LINES + 1):
            words = f"pid={_PID + number}, name=python3, Ch 00000008"
            began_s = time.monotonic()
            node.kernel_says(f"NVRM: Xid (PCI:{Faults.pci(number % 8)}): 43, {words}")
            while "Xid 43" not in log.read():
                if time.monotonic() - began_s > PATIENCE_S:
                    raise NeverHappened("an event of the kernel log", PATIENCE_S)
                await asyncio.sleep(POLL_S)
            found.append(time.monotonic() - began_s)
            await asyncio.sleep(APART_S)
    return found
