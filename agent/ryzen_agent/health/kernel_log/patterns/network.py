"""NVIDIA (Mellanox) adapters: slot power, cables and their heat, a PCIe link below what the card could do.

No pid is given: the one in these lines is whoever ran when the interrupt came, or who read a counter.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import PCI, Finding, normal_pci, one_line
from ryzen_agent.health.model import Action

HINTS = (b"x5_",)

EXAMPLES = (
    "mlx5_core 0000:5c:00.0: mlx5_pcie_event:299:(pid 268269): Detected insufficient power on the PCIe slot (27W).",
    "mlx5_port_module_event:1131:(pid 0): Port module event[error]: module 0, Cable error, High Temperature",
    "mlx5_core 0000:d2:00.0: mlx5_cmd_out_err:838:(pid 1441871): ACCESS_REG(0x805) op_mod(0x1) failed, status bad"
    " operation(0x2), syndrome (0x9a6171), err(-22)",
    "mlx5_core 0000:9c:00.0: 252.056 Gb/s available PCIe bandwidth, limited by 32.0 GT/s PCIe x8 link at 0000:97:01.0"
    " (capable of 504.112 Gb/s with 32.0 GT/s PCIe x16 link)",
    "mlx5_core 0000:5c:00.0: device's health compromised - reached miss count",
    "mlx5_core 0000:5c:00.0 ens5f0: Link down",
)

_MLX5 = re.compile(rf"(?:mlx5_(?:core|ib) (?P<pci>{PCI})(?: (?P<port>[\w.-]{{1,32}}))?: )?(?P<text>\S[^\n]{{0,400}})")
_AT = re.compile(rf"limited by [^\n]{{1,60}} link at (?P<bridge>{PCI})")
_MODULE = re.compile(r"module (\d{1,4})")

_WORDS: tuple[tuple[str, str, Action], ...] = (
    ("Detected insufficient power", "hw", "watch_repeat"),
    ("Cable error", "hw", "watch_repeat"),
    ("High Temperature", "hw", "watch_repeat"),
    ("High temperature", "hw", "watch_repeat"),
    ("Cable unplugged", "hw", "watch_repeat"),
    ("available PCIe bandwidth, limited by", "hw", "watch_repeat"),
    ("health compromised", "hw", "watch_repeat"),
    ("Fatal error", "hw", "watch_repeat"),
    ("Will cause a leak of a command resource", "hw", "watch_repeat"),
    ("Link down", "hw-info", "watch_repeat"),
    ("ACCESS_REG(0x805)", "info", "ignore"),
)
"""What is looked for in the text -> class and action. ACCESS_REG is the adapter refusing a read of its counters: the
reader's doing, not a fault (a restricted function answers every read so)."""


def find(message: str) -> Finding | None:
    """What an adapter says of itself."""
    if not message.startswith("mlx5_"):
        return None
    found = _MLX5.match(message)
    if found is None:
        return None
    for needle, fault_class, action in _WORDS:
        if needle in found["text"]:
            return Finding(
                "ib",
                one_line(message),
                device=found["port"] or "",
                pci=normal_pci(found["pci"]) if found["pci"] else "",
                unit=_unit(found["text"]),
                fault_class=fault_class,
                action=action,
            )
    return None


def _unit(text: str) -> str:
    if found := _AT.search(text):
        return f"PCIe link at {normal_pci(found['bridge'])}"
    found = _MODULE.search(text)
    return f"module {found[1]}" if found else ""
