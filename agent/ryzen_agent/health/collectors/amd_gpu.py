"""AMD GPUs, where the node has the driver and `amdsmi`: the same signals as far as it gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.gpu import amd
from ryzen_agent.health.gpu.looks import Looks
from ryzen_agent.health.model import Reading
from ryzen_agent.health.settings import HealthSettings


class AmdGpuCollector(Collector):
    """One look at every GPU. The library is imported only where the kernel has AMD's driver."""

    name = "amd_gpu"

    def __init__(self, settings: HealthSettings) -> None:
        self.interval_s = settings.gpu_interval_s
        self._driver = settings.sys / "module/amdgpu"
        self.sources: tuple[Path, ...] = (self._driver,)
        self._smi: Any = None
        self._gpus: list[amd.AmdGpu] = []
        self._looks = Looks(settings, "AMD")

    def collect(self) -> Reading:
        """Raises NothingHereError where there is no AMD GPU, or no library to ask."""
        if self._smi is None:
            if not self._driver.exists():
                raise NothingHereError("no AMD GPU driver (amdgpu)")
            self._smi = amd.load()
        handles = self._smi.amdsmi_get_processor_handles()
        if not handles:
            raise NothingHereError("amdsmi lists no GPU")
        self._gpus += [amd.AmdGpu(self._smi, at, handles[at]) for at in range(len(self._gpus), len(handles))]
        return self._looks.look(self._gpus[: len(handles)])

    def close(self) -> None:
        """Put back the power limits that were lowered."""
        self._looks.close()
