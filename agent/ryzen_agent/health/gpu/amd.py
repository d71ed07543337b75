"""A GPU's reading from AMD's driver, by `amdsmi` where the node has it (it comes with ROCm; it is no dependency).

Written after the interface of amdsmi 7.0.2 and tested against a stand-in of it; **not run on an AMD GPU**. Units that
differed between its releases are told by their size: temperatures in °C or thousandths, caps in W or millionths.
No error of it is known that means a lost GPU, so errors only warn.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.gpu.access import UNKNOWN, pci_address
from ryzen_agent.health.gpu.reading import HARDWARE_THERMAL, POWER_CAP, Ecc, GpuReading, Identity

ABSENT = frozenset({1, 2, 3, 10})
"""amdsmi_status_t of readings that are not to be had: invalid, not supported, not yet implemented, no permission."""

GENERATION_MT_S = {2500: 1, 5000: 2, 8000: 3, 16000: 4, 32000: 5, 64000: 6}
PAGE_PENDING = 1
"""amdsmi_memory_page_status_t."""

HOT = ("prochot_thrm", "socket_thrm", "vr_thrm", "hbm_thrm")


def load() -> Any:
    """The library, initialised. Raises NothingHereError where it cannot be had.

    Its import binds every symbol of libamd_smi.so and fails in its own ways where that is absent or another release.
    """
    try:
        smi = importlib.import_module("amdsmi")
    except (ImportError, OSError, KeyError, AttributeError) as error:
        raise NothingHereError(f"no amdsmi ({type(error).__name__}: {error})") from error
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException as error:
        raise NothingHereError(f"amdsmi cannot be used: {' '.join(str(error).split())}") from error
    return smi


class AmdGpu:
    """One GPU, by amdsmi's handle."""

    def __init__(self, smi: Any, index: int, handle: Any) -> None:
        self._smi = smi
        self._handle = handle
        self._absent: set[str] = set()
        self._failed: list[str] = []
        self.identity = Identity(index, "")

    def read(self, now_s: float) -> GpuReading:
        """One look."""
        self._failed = []
        if not self.identity.uuid:
            self._meet()
        found = GpuReading(self.identity, now_s)
        self._heat_and_power(found)
        self._memory(found)
        self._links(found)
        if self._failed:
            found.grave = {UNKNOWN: ["amdsmi"]}
        return found

    def set_power_limit(self, watts: float) -> str:
        """Change the limit; "" or why it cannot be. Needs root."""
        try:
            self._smi.amdsmi_set_power_cap(self._handle, 0, round(watts * 1_000_000))
        except self._smi.AmdSmiException as error:
            return " ".join(str(error).split())
        return ""

    def _meet(self) -> None:
        kind, limit = self._smi.AmdSmiTemperatureType, self._smi.AmdSmiTemperatureMetric
        asic, pcie = self._ask("asic_info", prefix="gpu_"), self._ask("pcie_info")
        cap = self._ask("power_cap_info")
        fixed = (pcie or {}).get("pcie_static", {})
        bounds = [_watts(each) for each in ((cap or {}).get("min_power_cap"), (cap or {}).get("max_power_cap"))]
        self.identity = Identity(
            self.identity.index,
            self._ask("device_uuid", prefix="gpu_") or "",
            pci_address(self._ask("device_bdf", prefix="gpu_") or ""),
            str((asic or {}).get("market_name", "")),
            shutdown_c=self._celsius(kind.HOTSPOT, limit.EMERGENCY),
            slowdown_c=self._celsius(kind.HOTSPOT, limit.CRITICAL),
            memory_max_c=self._celsius(kind.VRAM, limit.CRITICAL),
            default_power_limit_w=_watts((cap or {}).get("default_power_cap")),
            power_limits_w=(bounds[0], bounds[1]) if bounds[0] is not None and bounds[1] is not None else None,
            pcie_width_max=_whole(fixed.get("max_pcie_width")),
            pcie_generation_max=_whole(fixed.get("pcie_interface_version")),
            retired_pages_max=_whole(self._ask("bad_page_threshold", prefix="gpu_")),
        )

    def _heat_and_power(self, found: GpuReading) -> None:
        kind, now = self._smi.AmdSmiTemperatureType, self._smi.AmdSmiTemperatureMetric.CURRENT
        found.temperature_c = self._celsius(kind.HOTSPOT, now)
        found.memory_temperature_c = self._celsius(kind.VRAM, now)
        power = self._ask("power_info") or {}
        for name in ("socket_power", "current_socket_power", "average_socket_power"):
            if found.power_w is None:
                found.power_w = _number(power.get(name))
        found.power_limit_w = _watts((self._ask("power_cap_info") or {}).get("power_cap"))
        if (energy := self._ask("energy_count")) is not None:
            found.energy_j = energy["energy_accumulator"] * energy["counter_resolution"] / 1e6
        if (violated := self._ask("violation_status")) is not None:
            hot = any(violated.get(f"active_{name}") is True for name in HOT)
            found.reasons = (HARDWARE_THERMAL if hot else 0) | (
                POWER_CAP if violated.get("active_ppt_pwr") is True else 0
            )
        busy = _number((self._ask("activity", prefix="gpu_") or {}).get("gfx_activity"))
        found.utilization = None if busy is None else busy / 100

    def _memory(self, found: GpuReading) -> None:
        if (memory := self._ask("vram_usage", prefix="gpu_")) is not None:
            found.memory_used, found.memory_total = memory["vram_used"] << 20, memory["vram_total"] << 20
        if (ecc := self._ask("total_ecc_count", prefix="gpu_")) is not None:
            found.ecc = Ecc(ecc["correctable_count"], ecc["uncorrectable_count"])
        if (pages := self._ask("bad_page_info", prefix="gpu_")) is not None:
            found.retired_pages = len(pages)
            found.retired_pending = any(each["status"] == PAGE_PENDING for each in pages)
        found.processes = tuple(each["pid"] for each in self._ask("process_list", prefix="gpu_") or ())

    def _links(self, found: GpuReading) -> None:
        states = (self._ask("xgmi_link_status", prefix="gpu_") or {}).get("status", ())
        found.links = {link: state == "U" for link, state in enumerate(states) if state in {"U", "D"}}
        pcie = (self._ask("pcie_info") or {}).get("pcie_metric", {})
        found.pcie_width = _whole(pcie.get("pcie_width"))
        found.pcie_generation = GENERATION_MT_S.get(_whole(pcie.get("pcie_speed")) or 0)
        found.pcie_replays = _whole(pcie.get("pcie_replay_count"))

    # ------------------------------------------------------------------ asking

    def _ask(self, what: str, *arguments: object, prefix: str = "") -> Any:
        """The answer of `amdsmi_get_<prefix><what>`; None where there is none, said nowhere again where it never is."""
        key = f"{what} {arguments}"
        call: Callable[..., Any] | None = getattr(self._smi, f"amdsmi_get_{prefix}{what}", None)
        if call is None or key in self._absent:
            return None
        try:
            return call(self._handle, *arguments)
        except self._smi.AmdSmiException as error:
            if getattr(error, "err_code", None) in ABSENT:
                self._absent.add(key)
            else:
                self._failed.append(what)
            return None

    def _celsius(self, sensor: Any, metric: Any) -> float | None:
        degrees = _number(self._ask("temp_metric", sensor, metric))
        if not degrees:
            return None
        return degrees / 1000 if degrees > 1000 else degrees


def _number(value: object) -> float | None:
    """What it does not know it calls "N/A"."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None else None


def _watts(value: object) -> float | None:
    number = _number(value)
    return number if number is None or number < 100_000 else number / 1_000_000
