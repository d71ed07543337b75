"""GPUs that the PCI bus shows, whether or not a driver has them."""

from __future__ import annotations

from pathlib import Path

NVIDIA = "0x10de"
DISPLAY, CONTROLLER = "0x0300", "0x0302"
"""VGA controllers and 3D controllers (PCI code and ID assignment: base class 03)."""

GIVEN_AWAY = frozenset({"vfio-pci", "nouveau", "pci-stub"})
"""Drivers of GPUs that are not this system's to compute on."""

COMPUTES = "nvidia"


def gpus_on_the_bus(sys: Path) -> tuple[str, ...]:
    """Addresses ("0000:05:00") of NVIDIA's GPUs, but those that are given to a virtual machine, and virtual functions.

    A display counts only where NVIDIA's driver has taken it: it may be the console's. A file that cannot be read counts
    for nothing: the bus is a second opinion.
    """
    found = []
    for device in sorted(sys.glob("bus/pci/devices/*")):
        if _text(device / "vendor") != NVIDIA or (device / "physfn").exists():
            continue
        driver, kind = _driver(device), _text(device / "class")[:6]
        if (kind == CONTROLLER and driver not in GIVEN_AWAY) or (kind == DISPLAY and driver == COMPUTES):
            found.append(device.name.rpartition(".")[0].lower())
    return tuple(found)


def _driver(device: Path) -> str:
    try:
        return (device / "driver").resolve(strict=True).name
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
