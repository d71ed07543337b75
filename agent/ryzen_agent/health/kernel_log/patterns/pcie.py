"""PCIe errors that the root ports report (drivers/pci/pcie/aer.c; wordings of kernels 2.6 to 6.x).

Told and counted by device, never acted on: from a fatal error most devices recover, of one that does not the line does
not say whether the job needs it, and a lost GPU or NIC is told by its own driver.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import PCI, Finding, normal_pci, one_line
from ryzen_agent.health.model import Action

HINTS = (b"AER: ", b"PCIe Bus Error", b"/mask=", b":    [", b"very failed")

EXAMPLES = (
    "pcieport 0000:00:1b.2: AER: Correctable error received from 0000:03:04.0",
    "pcieport 0000:00:1b.2: AER: Uncorrectable (Fatal) error message received from 0000:03:04.0",
    "pcieport 0000:03:04.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)",
    "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, id=0008(Transmitter ID)",
    "pcieport 0000:03:04.0:   device [111d:8063] error status/mask=00000001/00002000",
    "pcieport 0000:03:04.0:    [ 0] RxErr",
    "pcieport 0000:00:01.0: AER: device recovery failed",
    "nvidia 0000:03:00.0: AER: can't recover (no error_detected callback)",
)

_DRIVER = rf"[^\s:]{{1,40}} (?P<pci>{PCI}): "
_RECEIVED = re.compile(
    rf"{_DRIVER}(?:AER: )?(?:Multiple )?(?P<severity>Correct(?:ed|able)|Uncorrect(?:ed|able) \((?:Non-)?Fatal\))"
    rf" error (?:message )?received(?: from|:) (?P<source>{PCI})"
)
_BUS_ERROR = re.compile(rf"{_DRIVER}(?:AER: )?PCIe Bus Error: severity=(?P<severity>[^,]{{1,40}})")
_FAILED = re.compile(rf"{_DRIVER}(?:AER: )?device recovery failed", re.IGNORECASE)
_HELPLESS = re.compile(rf"{_DRIVER}(?:AER: )?can't recover ")
_STATUS = re.compile(rf"{_DRIVER}  device \[[0-9a-f]{{4}}:[0-9a-f]{{4}}\] error status/mask=")
_BIT = re.compile(rf"{_DRIVER}   \[ ?\d{{1,2}}\] (?P<bit>[A-Z][A-Za-z]{{2,24}})\b")


def find(message: str) -> Finding | None:
    """One line of a report; its details (status, bits) follow the line before."""
    if found := _RECEIVED.match(message):
        return _error(message, found["source"], found["severity"])
    if found := _BUS_ERROR.match(message):
        return _error(message, found["pci"], found["severity"])
    if found := _FAILED.match(message):
        return _made(message, found["pci"], "hw", "watch_repeat")
    if found := _HELPLESS.match(message):
        return _made(message, found["pci"], "hw", "watch_repeat")
    if found := _STATUS.match(message):
        return _made(message, found["pci"], "meta", "follow_other")
    if found := _BIT.match(message):
        return _made(message, found["pci"], "meta", "follow_other", found["bit"])
    return None


def _error(message: str, pci: str, severity: str) -> Finding:
    return _made(message, pci, "hw-info" if severity.startswith("Correct") else "hw", "watch_repeat")


def _made(message: str, pci: str, fault_class: str, action: Action, unit: str = "") -> Finding:
    address = normal_pci(pci)
    return Finding("aer", one_line(message), pci=address, unit=unit, fault_class=fault_class, action=action)
