"""A GPU's reading from NVIDIA's driver. Cheap questions at each look; what cannot change is asked once.

NVLink counters are read as totals over all links: one call a GPU instead of five a link, each of which goes to the
GPU's firmware.
"""

from __future__ import annotations

import contextlib
import ctypes

import pynvml

from ryzen_agent.health.gpu.access import Device, pci_address
from ryzen_agent.health.gpu.reading import Ecc, Fabric, GpuReading, Identity, Rows

MEMORY_TEMPERATURE, LINK_COUNT, RECOVERY_ACTION = 82, 91, 230
LINK_ERRORS = {38: "crc_flit", 45: "crc_data", 52: "replay", 59: "recovery", 160: "ecc_data"}
"""Fields of NVML (nvml.h: NVML_FI_DEV_...)."""

LINKS_MAX = 36
THRESHOLDS = SHUTDOWN, SLOWDOWN, MEMORY_MAX, GPU_MAX = range(4)
"""nvmlTemperatureThresholds_t."""


class NvmlGpu:
    """One GPU of the driver, by index."""

    def __init__(self, index: int) -> None:
        self.device = Device(index)
        self.identity = Identity(index, "")
        self._fields = (MEMORY_TEMPERATURE, RECOVERY_ACTION, *LINK_ERRORS)
        self._links: tuple[int, ...] = ()

    def read(self, now_s: float) -> GpuReading:
        """One look. Whatever is wrong with the GPU is in the reading."""
        device = self.device
        if device.begin() and (uuid := device.read("nvmlDeviceGetUUID")) and uuid != self.identity.uuid:
            self._meet(uuid)
        found = GpuReading(self.identity, now_s, grave=device.grave)
        if self.identity.uuid and not device.grave:
            self._heat_and_power(found)
            self._load(found)
            self._memory(found)
            self._links_of(found)
            self._pcie(found)
            self._state(found)
        return found

    def set_power_limit(self, watts: float) -> str:
        """Change the limit; "" or why it cannot be. Needs root."""
        try:
            pynvml.nvmlDeviceSetPowerManagementLimit(self.device.handle, round(watts * 1000))
        except pynvml.NVMLError as error:
            return str(error)
        return ""

    # ------------------------------------------------------------------ once

    def _meet(self, uuid: str) -> None:
        """A GPU not seen before at this index, perhaps in place of another."""
        index = self.device.index
        read = (device := self.device).read
        pci = read("nvmlDeviceGetPciInfo")
        limits = [
            read("nvmlDeviceGetTemperatureThreshold", which, key=f"limit {which}") or None for which in THRESHOLDS
        ]
        default = read("nvmlDeviceGetPowerManagementDefaultLimit")
        constraints = read("nvmlDeviceGetPowerManagementLimitConstraints")
        self.identity = Identity(
            index,
            uuid,
            pci_address(pci.busId) if pci is not None else "",
            read("nvmlDeviceGetName") or "",
            shutdown_c=limits[SHUTDOWN],
            slowdown_c=limits[SLOWDOWN],
            gpu_max_c=limits[GPU_MAX],
            memory_max_c=limits[MEMORY_MAX],
            default_power_limit_w=None if default is None else default / 1000,
            power_limits_w=None if constraints is None else (constraints[0] / 1000, constraints[1] / 1000),
            pcie_width_max=read("nvmlDeviceGetMaxPcieLinkWidth"),
            pcie_generation_max=read("nvmlDeviceGetMaxPcieLinkGeneration"),
        )
        count = device.fields((LINK_COUNT,)).get(LINK_COUNT, LINKS_MAX)
        self._links = tuple(range(min(count, LINKS_MAX)))

    # ------------------------------------------------------------------ at each look

    def _heat_and_power(self, found: GpuReading) -> None:
        read = self.device.read
        found.temperature_c = read("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
        found.margin_c = read("nvmlDeviceGetMarginTemperature")
        found.reasons = read("nvmlDeviceGetCurrentClocksEventReasons")
        if found.reasons is None:  # drivers before 535
            found.reasons = read("nvmlDeviceGetCurrentClocksThrottleReasons")
        found.power_w = _thousandth(read("nvmlDeviceGetPowerUsage"))
        found.power_limit_w = _thousandth(read("nvmlDeviceGetEnforcedPowerLimit"))
        found.energy_j = _thousandth(read("nvmlDeviceGetTotalEnergyConsumption"))

    def _load(self, found: GpuReading) -> None:
        read = self.device.read
        if (rates := read("nvmlDeviceGetUtilizationRates")) is not None:
            found.utilization = rates.gpu / 100
        if (memory := read("nvmlDeviceGetMemoryInfo")) is not None:
            found.memory_used, found.memory_total = memory.used, memory.total
        processes = self.device.ask(_compute_processes, "processes", self.device.handle)
        found.processes = processes or ()

    def _memory(self, found: GpuReading) -> None:
        read = self.device.read
        found.ecc = Ecc(
            *(
                read("nvmlDeviceGetTotalEccErrors", kind, since, key=f"ecc {kind} {since}")
                for since in (pynvml.NVML_VOLATILE_ECC, pynvml.NVML_AGGREGATE_ECC)
                for kind in (pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
            )
        )
        found.sram_threshold = self.device.ask(_sram_threshold, "sram", self.device.handle)
        if (rows := read("nvmlDeviceGetRemappedRows")) is not None:
            found.rows = Rows(rows[0], rows[1], bool(rows[2]), bool(rows[3]))
        else:  # before Ampere there are pages instead
            causes = (
                pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
                pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
            )
            pages = [read("nvmlDeviceGetRetiredPages_v2", cause, key=f"retired {cause}") for cause in causes]
            if None not in pages:
                found.retired_pages = sum(map(len, pages))
            pending = read("nvmlDeviceGetRetiredPagesPendingStatus")
            found.retired_pending = None if pending is None else bool(pending)

    def _links_of(self, found: GpuReading) -> None:
        for link in self._links:
            active = self.device.read("nvmlDeviceGetNvLinkState", link, key=f"nvlink {link}")
            if active is not None:
                found.links[link] = bool(active)
        fields = self.device.fields(self._fields)
        found.memory_temperature_c = fields.get(MEMORY_TEMPERATURE)
        found.recovery_action = fields.get(RECOVERY_ACTION)
        found.link_errors = {name: fields[which] for which, name in LINK_ERRORS.items() if which in fields}

    def _pcie(self, found: GpuReading) -> None:
        read = self.device.read
        found.pcie_width = read("nvmlDeviceGetCurrPcieLinkWidth")
        found.pcie_generation = read("nvmlDeviceGetCurrPcieLinkGeneration")
        found.pcie_replays = read("nvmlDeviceGetPcieReplayCounter")

    def _state(self, found: GpuReading) -> None:
        read = self.device.read
        found.fabric = self.device.ask(_fabric, "fabric", self.device.handle)
        if (mig := read("nvmlDeviceGetMigMode")) is not None:
            found.mig = bool(mig[0])
        persistence = read("nvmlDeviceGetPersistenceMode")
        found.persistence = None if persistence is None else bool(persistence)


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _compute_processes(handle: object) -> tuple[int, ...]:
    # The unversioned function turns a missing symbol into an error of its own.
    with contextlib.suppress(pynvml.NVMLError_FunctionNotFound):
        return tuple(each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    return tuple(each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle))


def _sram_threshold(handle: object) -> bool:
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    pynvml.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return bool(status.bThresholdExceeded)


def _fabric(handle: object) -> Fabric:
    info = pynvml.c_nvmlGpuFabricInfo_v2_t()
    pynvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))
    return Fabric(info.state, info.status, info.healthMask)
