"""The driver on a GPU without an Xid: it cannot be brought up; and which UUID sits at which address.

Before the first Xid of a GPU the driver prints its UUID, which names the GPU also when NVML is dead.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import PCI, Finding, normal_pci, one_line
from ryzen_agent.health.model import Action

HINTS = (b"NVRM: ",)

EXAMPLES = (
    "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x65:1457)",
    "NVRM: RmInitAdapter failed! (0x62:0xffffffff:1089)",
)

_INIT = re.compile(rf"NVRM: (?:GPU (?P<pci>{PCI}): )?RmInitAdapter failed")

# NVRM: GPU at PCI:0000:9b:00: GPU-f1648d72-c7c8-9814-2832-7a062b009188
_IDENTITY = re.compile(rf"NVRM: GPU at (?:PCI:)?(?P<pci>{PCI}): (?P<uuid>GPU-[0-9a-fA-F-]{{36}})(?![0-9a-zA-Z-])")


def find(message: str) -> Finding | None:
    """A GPU that cannot be brought up; where the line does not say which one it is only told."""
    found = _INIT.match(message)
    if found is None:
        return None
    pci = normal_pci(found["pci"]) if found["pci"] else ""
    action: Action = "reset_gpu" if pci else "watch_repeat"
    return Finding("gpu", one_line(message), pci=pci, fault_class="hw", action=action)


def identity(message: str) -> tuple[str, str] | None:
    """(PCI address, UUID) where the message is the driver's introduction of a GPU."""
    found = _IDENTITY.match(message)
    return (normal_pci(found["pci"]), f"GPU-{found['uuid'][4:].lower()}") if found else None
