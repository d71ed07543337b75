"""A driver without a GPU: `mock_nvml.c` as `libnvidia-ml.so.1`, and the faults that are injected into it.

    library = mock_nvml.build(folder)                 # once; then start a process with LD_LIBRARY_PATH=folder
    faults = mock_nvml.Faults(folder)                 # and, while that process runs:
    faults.gpu(3, temperature_c=93, clock_event_reasons=0x40)
    faults.xid(3, 79)

The real `nvidia-ml-py` loads it, so that what is tested is what runs on a GPU. The library finds the file `state`
beside itself and reads it again whenever it is replaced. Each node of a lab has a folder of its own.

Of the driver:

    count                   GPUs that it lists
    init_error              what nvmlInit returns: 9 driver not loaded, 18 library and driver do not match
    hang, hang_events       every call blocks; the wait for events blocks beyond its timeout
    no_permission           1: changes (the power limit) are refused, as without root
    node                    a number that goes into the UUIDs, so that nodes differ

Of a GPU, by index; any of them may be `fails(code)` instead: the readings that need it give that NVML error.

    error                   what every call about it returns: 15 lost, 16 reset required, 999 unknown
    hang                    1: calls about it block for as long as this stands
    model                   0 an H100; any other number is a model of that number
    temperature_c, memory_temperature_c, margin_c
    shutdown_c, slowdown_c, gpu_max_c, memory_max_c                 limits
    clock_event_reasons     bits: 0x1 idle, 0x4 power cap, 0x8 hardware slowdown, 0x20 software thermal,
                            0x40 hardware thermal, 0x80 power brake
    power_mw, energy_mj, default_limit_mw, min_limit_mw, max_limit_mw
    utilization_percent, memory_utilization_percent, memory_total_bytes, memory_used_bytes
    ecc_corrected_volatile, ecc_uncorrected_volatile, ecc_corrected_aggregate, ecc_uncorrected_aggregate
    sram_threshold_exceeded, rows_corrected, rows_uncorrected, rows_pending, rows_failed
    retired_single_bit, retired_double_bit, retired_pending         pages, before Ampere
    nvlinks                 how many links it has
    nvlink_down_mask        bit N: link N is inactive
    nvlink_crc_flit, nvlink_crc_data, nvlink_ecc_data, nvlink_replay, nvlink_recovery, nvlink_error_link
    pcie_width, pcie_width_max, pcie_generation, pcie_generation_max, pcie_replays
    recovery_action         field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset
    fabric_state, fabric_status, fabric_health
    mig, persistence        1: on
    pid                     of a process that computes on it; 0 none

Power limits that the agent sets are in `Faults.power_limits_mw()`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from ryzen_lab.errors import LabError

SOURCE = Path(__file__).with_name("mock_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
XID_EVENT, UNAVAILABLE_EVENT, RECOVERY_ACTION_EVENT = 0x8, 0x4000, 0x8000
_EVENTS_MAX = 256
"""As many as the library keeps; older ones have long been delivered."""


def build(folder: Path, *, old_driver: bool = False) -> Path:
    """Compile the library into `folder`, unless it is there already. The file's path.

    `old_driver`: without the functions that drivers before 535 do not have. Raises LabError where there is no C
    compiler.
    """
    library = folder / LIBRARY
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise LabError("the mock GPU driver needs a C compiler (cc or gcc): install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{LIBRARY}.{os.getpid()}"
    options = ["-O1", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", *(["-DOLD_DRIVER"] if old_driver else [])]
    done = subprocess.run(
        [compiler, *options, "-o", str(aside), str(SOURCE), "-ldl", "-lpthread"], capture_output=True, text=True
    )
    if done.returncode:
        raise LabError(f"the mock GPU driver does not compile: {done.stderr.strip()[-300:]}")
    aside.replace(library)
    return library


def fails(code: int) -> str:
    """The value of a reading that gives the NVML error `code` (3: not supported)."""
    return f"!{code}"


class Faults:
    """What the mock's GPUs say from now on. One writer a folder; each call takes effect within a millisecond."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values: dict[str, str] = {}
        self._events: list[str] = []
        self._sequence = 0
        self._read()

    def driver(self, **values: int) -> None:
        """Set values of the driver."""
        self._values.update({name: str(value) for name, value in values.items()})
        self._write()

    def gpu(self, index: int, **values: int | str) -> None:
        """Set values of one GPU."""
        self._values.update({f"{index}.{name}": str(value) for name, value in values.items()})
        self._write()

    def every_gpu(self, **values: int | str) -> None:
        """Set values of all GPUs."""
        for index in range(int(self._values.get("count", "8"))):
            self._values.update({f"{index}.{name}": str(value) for name, value in values.items()})
        self._write()

    def healthy(self) -> None:
        """Everything as it was at first; what is in the events has happened."""
        self._values = {name: value for name, value in self._values.items() if name in {"count", "node"}}
        self._write()

    def event(self, index: int, kind: int, data: int) -> None:
        """The driver says something to whoever waits for events of that kind of that GPU."""
        self._sequence += 1
        self._events = [*self._events[1 - _EVENTS_MAX :], f"event {self._sequence} {index} {kind} {data}"]
        self._write()

    def xid(self, index: int, xid: int) -> None:
        """An Xid of one GPU, as the driver's events say it."""
        self.event(index, XID_EVENT, xid)

    def lose(self, index: int) -> None:
        """The GPU falls off the bus: every call about it says so, and the driver tells Xid 79."""
        self._values[f"{index}.error"] = "15"
        self.xid(index, 79)

    def uuid(self, index: int) -> str:
        """Of a GPU, as the library says it."""
        return f"GPU-{int(self._values.get('node', '0')):08x}-0000-4000-8000-{index:012x}"

    @staticmethod
    def pci(index: int) -> str:
        """Address of a GPU, as events and conditions name it."""
        bus = 0x10 * (index + 1)
        return f"{bus >> 8:04x}:{bus & 0xFF:02x}:00"

    def power_limits_mw(self) -> list[tuple[int, int]]:
        """(GPU, milliwatts) of every limit that was set, oldest first."""
        path = self.folder / "power_limits"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(gpu), int(limit)) for gpu, limit in (line.split() for line in lines)]

    def _read(self) -> None:
        path = self.folder / "state"
        for line in path.read_text().splitlines() if path.exists() else []:
            if line.startswith("event "):
                self._events.append(line)
                self._sequence = int(line.split()[1])
            else:
                name, value = line.split()
                self._values[name] = value

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".state.{os.getpid()}"
        lines = [*(f"{name} {value}" for name, value in self._values.items()), *self._events]
        aside.write_text("\n".join(lines) + "\n")
        now = time.time_ns()
        os.utime(aside, ns=(now, now))  # finer than the kernel's own: two writes in one of its ticks must differ
        aside.replace(self.folder / "state")
