"""Families of messages, one a file, all in this list. A new one: its file, its line here, its samples in the tests.

Each has `HINTS` (one of which is in every message that it can find, so that all other lines cost one search: they begin
with characters that are rare in a log, which is what that search goes by), `EXAMPLES` (real lines, a row of
docs/health.md each) and `find`. Patterns are anchored at the beginning of a message: a program that logs *about* an
Xid is not one. They are linear in the message's length, which is bounded besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ryzen_agent.health.kernel_log.finding import Finding
from ryzen_agent.health.kernel_log.patterns import (
    gpu,
    kernel,
    machine,
    memory,
    nccl,
    network,
    pcie,
    storage,
    sxid,
    xid,
)


class Family(NamedTuple):
    hints: tuple[bytes, ...]
    examples: tuple[str, ...]
    find: Callable[[str], Finding | None]


FAMILIES = tuple(
    Family(each.HINTS, each.EXAMPLES, each.find)
    for each in (xid, gpu, sxid, memory, machine, pcie, kernel, storage, network, nccl)
)

__all__ = ["FAMILIES", "Family"]
