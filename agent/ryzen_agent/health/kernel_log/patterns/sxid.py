"""SXids: what the driver says of an NVSwitch (common_nvswitch.h of open-gpu-kernel-modules).

One fault is several lines: the first says how bad it is, those with "Severity" and "Data" are its details.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import PCI, Finding, normal_pci, one_line
from ryzen_agent.health.model import Action

HINTS = (b"SXid",)

EXAMPLES = (
    "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up",
    "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)",
    "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 20034, Severity 1 Engine instance 60 Sub-engine instance 00",
    "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Data {0x10000000, 0x10000000, 0x00000000}",
)

_SXID = re.compile(
    rf"nvidia-(?P<switch>nvswitch\d+): SXid \((?:PCI:)?(?P<pci>{PCI})\): (?P<sxid>\d{{1,5}}),?\s*(?P<text>.*)",
    re.DOTALL,
)
_LINK = re.compile(r"Link (\d+)")

_WORDS: dict[str, tuple[str, Action]] = {
    "Fatal": ("hw", "reboot"),
    "Non-fatal": ("hw-info", "watch_repeat"),
    "Severity": ("meta", "follow_other"),
    "Data": ("meta", "follow_other"),
}
_FIRST_WORD = re.compile(r"Fatal|Non-fatal|Severity|Data")


def find(message: str) -> Finding | None:
    """A switch's fault. A fatal one needs the switch and all its GPUs reset, which the node's reboot does."""
    found = _SXID.match(message)
    if found is None:
        return None
    text = one_line(found["text"])
    word, link = _FIRST_WORD.match(text), _LINK.search(text)
    fault_class, action = _WORDS[word[0]] if word else ("unknown", "watch_repeat")
    sxid = int(found["sxid"])
    return Finding(
        kind="sxid",
        message=one_line(f"SXid {sxid} of {found['switch']}: {text}"),
        code=sxid,
        device=found["switch"][:32],
        pci=normal_pci(found["pci"]),
        unit=f"link {int(link[1])}" if link else "",
        fault_class=fault_class,
        action=action,
    )
