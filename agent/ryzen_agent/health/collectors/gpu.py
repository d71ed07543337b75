"""NVIDIA GPUs, looked at again and again: temperatures, power, memory, links, and what follows from them."""

from __future__ import annotations

import pynvml

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.gpu import access
from ryzen_agent.health.gpu.looks import Looks
from ryzen_agent.health.gpu.nvml import NvmlGpu
from ryzen_agent.health.gpu.pci import gpus_on_the_bus
from ryzen_agent.health.gpu.rules.beside import DRIVER
from ryzen_agent.health.model import Condition, Reading, Severity
from ryzen_agent.health.settings import HealthSettings

NOT_LOADED = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
REBOOT = frozenset({NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH})


class GpuCollector(Collector):
    """One look at every GPU, `settings.gpu_interval_s` apart. One that hangs holds this collector and no other."""

    name = "gpu"
    sources = access.SOURCES

    def __init__(self, settings: HealthSettings) -> None:
        self.interval_s = settings.gpu_interval_s
        self._settings = settings
        self._gpus: list[NvmlGpu] = []
        self._looks = Looks(settings, "NVIDIA")

    def collect(self) -> Reading:
        """Raises NothingHereError where there is no NVIDIA GPU."""
        try:
            count = access.open_driver()
        except access.DriverError as error:
            return self._without_driver(error)
        if not count:
            raise NothingHereError("the NVIDIA driver lists no GPU")
        self._gpus += [NvmlGpu(index) for index in range(len(self._gpus), count)]
        return self._looks.look(self._gpus[:count])

    def close(self) -> None:
        """Put back the power limits that were lowered."""
        self._looks.close()

    def _without_driver(self, error: access.DriverError) -> Reading:
        """The library is there and does not work. On a node without a GPU that troubles nobody: images bring it."""
        expected = self._settings.expected_gpus
        if not (gpus_on_the_bus(self._settings.sys) if expected is None else expected):
            raise NothingHereError(f"no NVIDIA GPU on the PCI bus ({error})") from error
        action = DRIVER.action if error.code in REBOOT else "watch_repeat"
        severity: Severity = "critical" if expected and error.code == NOT_LOADED else DRIVER.severity
        return Reading((Condition(DRIVER.name, str(error), "", severity, action, value=float(error.code)),))
