"""Ports of InfiniBand and RoCE, as /sys/class/infiniband shows them (Documentation/ABI/stable/sysfs-class-infiniband).

mlx5_0/ports/1/state        4: ACTIVE
mlx5_0/ports/1/phys_state   5: LinkUp
mlx5_0/ports/1/rate         400 Gb/sec (4X NDR)
mlx5_0/ports/1/link_layer   InfiniBand            or Ethernet
mlx5_0/ports/1/counters/symbol_error              "N/A (no PMA)" where the port has no such agent
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.sysfs import SmallFiles

BITS: Mapping[str, int] = {
    "symbol_error": 16,
    "link_error_recovery": 8,
    "link_downed": 8,
    "port_rcv_errors": 16,
    "port_xmit_discards": 16,
    "local_link_integrity_errors": 4,
    "excessive_buffer_overrun_errors": 4,
}
"""Counters of `counters/` -> bits of the classic PortCounters (IBTA, 16.1.3.5); at their end they stay."""
HARDWARE = ("rnr_nak_retry_err", "local_ack_timeout_err", "out_of_sequence", "roce_slow_restart")
"""Counters of `hw_counters/`, 64 bits."""
DATA = ("port_rcv_data", "port_xmit_data")
"""Counters of `counters/` in words of four bytes."""

_STATE = re.compile(r"\d+:\s*(\w+)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) Gb/sec")


@dataclass(frozen=True, slots=True)
class Port:
    """One look at one port. `state`: "" where it cannot be read. `counters`: those that can, saturated ones apart."""

    device: str
    number: str
    state: str
    phys_state: str = ""
    rate_gbps: float | None = None
    link_layer: str = ""
    board: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)
    saturated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.device}/{self.number}"

    @property
    def is_up(self) -> bool:
        return self.state == "ACTIVE"


def parse_state(text: str | None) -> str:
    """The word of "4: ACTIVE", of state and phys_state alike; "" where there is none."""
    found = _STATE.match(text or "")
    return found.group(1) if found else ""


def parse_rate(text: str | None) -> float | None:
    """Gbit/s of "400 Gb/sec (4X NDR)"; None where there is none."""
    found = _RATE.match(text or "")
    return float(found.group(1)) if found else None


def is_saturated(counter: str, value: int) -> bool:
    """Whether it stands at the very end of the classic range. Beyond it, the driver has a wider counter."""
    bits = BITS.get(counter)
    return bits is not None and value == (1 << bits) - 1


def read_ports(sys: Path, exclude: tuple[str, ...], files: SmallFiles) -> list[Port]:
    """All ports. Raises NothingHereError where there is no such device, OSError."""
    root = sys / "class/infiniband"
    try:
        devices = sorted(os.listdir(root))  # noqa: PTH208 - names are wanted
    except FileNotFoundError as error:
        raise NothingHereError("no InfiniBand or RoCE device") from error
    ports = []
    for device in devices:
        if device in exclude:
            continue
        board = files.text(f"{root}/{device}/board_id") or files.text(f"{root}/{device}/hca_type") or ""
        folder = f"{root}/{device}/ports"
        numbers = sorted(os.listdir(folder)) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
        ports += [_read_port(f"{folder}/{number}", device, number, board, files) for number in numbers]
    return ports


def _read_port(folder: str, device: str, number: str, board: str, files: SmallFiles) -> Port:
    state = parse_state(files.text(f"{folder}/state"))
    if not state:
        return Port(device, number, state)
    paths = {each: f"{folder}/counters/{each}" for each in (*BITS, *DATA)}
    paths |= {each: f"{folder}/hw_counters/{each}" for each in HARDWARE}
    values = {each: value for each, path in paths.items() if (value := files.number(path)) is not None}
    saturated = tuple(each for each, value in values.items() if is_saturated(each, value))
    return Port(
        device,
        number,
        state,
        parse_state(files.text(f"{folder}/phys_state")),
        parse_rate(files.text(f"{folder}/rate")),
        files.text(f"{folder}/link_layer") or "",
        board,
        {each: value for each, value in values.items() if each not in saturated},
        saturated,
    )
