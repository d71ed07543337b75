"""GPUs that are missing: against what the node should have, what its PCI bus shows, and what was there before."""

from __future__ import annotations

import os

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.gpu import access
from ryzen_agent.health.gpu.pci import gpus_on_the_bus
from ryzen_agent.health.gpu.rules.beside import MISSING
from ryzen_agent.health.model import Condition, Reading
from ryzen_agent.health.settings import HealthSettings

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
"""Set by the container toolkit: the container may have been given fewer GPUs than the bus shows."""

EVERYTHING = frozenset({"", "all"})


class GpuCountCollector(Collector):
    """Counts, and names by PCI address what is not there where that can be told."""

    name = "gpu_count"
    interval_s = 30.0
    sources = access.SOURCES

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._whole_node = os.environ.get(VISIBLE, "") in EVERYTHING
        self._known: dict[str, str] = {}  # PCI address -> UUID, of all that were ever listed
        self._here: set[str] = set()
        self._listed = -1
        self._most = 0

    def collect(self) -> Reading:
        """Raises NothingHereError where there is no GPU and none is expected."""
        expected = self._settings.expected_gpus
        bus = gpus_on_the_bus(self._settings.sys) if self._whole_node else ()
        try:
            listed = access.open_driver()
        except NothingHereError:
            if not expected:
                raise
            listed = 0
        except access.DriverError as error:
            raise NothingHereError(f"not counted: {error}") from error
        if listed != self._listed:  # not at each look: a GPU that hangs would hold this too
            self._here, self._listed = self._meet(listed), listed
        self._most = max(self._most, listed)
        should = expected if expected is not None else max(len(bus), self._most)
        if listed >= should:
            if not should:
                raise NothingHereError("no GPU")
            return Reading()
        absent = sorted((set(self._known) | set(bus)) - self._here)
        if len(absent) != should - listed:
            return Reading((self._condition("", "", f"{listed} of {should} GPUs are there", listed, should),))
        missing = "the GPU at {} is missing: {} of {} are there"
        return Reading(
            tuple(
                self._condition(self._known.get(pci) or pci, pci, missing.format(pci, listed, should), listed, should)
                for pci in absent
            )
        )

    def _meet(self, listed: int) -> set[str]:
        """PCI addresses of those that answer."""
        here = set()
        for index in range(listed):
            device = access.Device(index)
            if device.begin() and (pci := device.read("nvmlDeviceGetPciInfo")) is not None:
                address = access.pci_address(pci.busId)
                self._known[address] = device.read("nvmlDeviceGetUUID") or self._known.get(address, "")
                here.add(address)
        return here

    @staticmethod
    def _condition(device: str, pci: str, message: str, listed: int, should: int) -> Condition:
        return Condition(
            MISSING.name, message, device, MISSING.severity, MISSING.action, pci, float(listed), float(should)
        )
