"""GPUs that the PCI bus shows, whether or not a driver has them."""

from __future__ import annotations

from pathlib import Path

NVIDIA = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")
"""VGA controllers and 3D controllers (PCI code and ID assignment: base class 03)."""

GIVEN_AWAY = frozenset({"vfio-pci", "nouveau", "pci-stub"})
"""Drivers of GPUs that are not this system's to compute on."""


def gpus_on_the_bus(sys: Path, vendor: str = NVIDIA) -> tuple[str, ...]:
    """Addresses ("0000:05:00") of the vendor's GPUs, but those that are given to a virtual machine or a display.

    A file that cannot be read counts for nothing: the bus is a second opinion.
    """
    found = []
    for device in sorted(sys.glob("bus/pci/devices/*")):
        if _text(device / "vendor") != vendor or not _text(device / "class").startswith(DISPLAY_CLASSES):
            continue
        try:
            driver = (device / "driver").resolve(strict=True).name
        except OSError:
            driver = ""
        if driver not in GIVEN_AWAY:
            found.append(device.name.rpartition(".")[0].lower())
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
