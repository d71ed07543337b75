"""NVML in this process: opened once, for all collectors, and never closed before the process ends.

It is never closed because handles and event sets of other threads would dangle. A driver that hangs may hold the
thread that opens it; the others then wait for the lock no longer than `LOCK_S` and say so.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pynvml

from ryzen_agent.health.collector import NothingHereError

NOT_HERE = frozenset(
    {
        pynvml.NVML_ERROR_INVALID_ARGUMENT,  # a field or a link that this driver does not know
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
"""Of a reading: it is not to be had here, now or later."""

LOST = pynvml.NVML_ERROR_GPU_IS_LOST
RESET_REQUIRED = pynvml.NVML_ERROR_RESET_REQUIRED
UNKNOWN = pynvml.NVML_ERROR_UNKNOWN
GRAVE = frozenset({LOST, RESET_REQUIRED, UNKNOWN})
"""Of a GPU, whichever reading gave it."""

LOCK_S = 5.0
SOURCES = (Path("/dev/nvidiactl"),)
"""What appears when the driver is loaded."""

_lock = threading.Lock()
_opened = False


class DriverError(Exception):
    """The driver is there and cannot be used; `code` is NVML's. The text is one line for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def open_driver() -> int:
    """How many GPUs the driver lists.

    Raises NothingHereError where there is no NVIDIA driver, DriverError where it cannot be used, TimeoutError where
    another thread has been held in it for too long.
    """
    global _opened
    if not _lock.acquire(timeout=LOCK_S):
        raise TimeoutError("another thread is held in the NVIDIA driver's initialisation")
    try:
        if not _opened:
            pynvml.nvmlInit()
            _opened = True
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            raise NothingHereError("no NVIDIA driver (libnvidia-ml.so.1)") from error
        raise DriverError(error.value, f"the NVIDIA driver cannot be used: {error}") from error
    finally:
        _lock.release()
    try:
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        raise DriverError(error.value, f"the NVIDIA driver does not list its GPUs: {error}") from error


class Device:
    """One GPU that is asked. Each question is contained: an answer, or None.

    `grave` has what the GPU's errors mean for all of it: code -> the questions that gave it.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.handle: Any = None
        self.grave: dict[int, list[str]] = {}
        self._absent: set[str] = set()

    def begin(self) -> bool:
        """A new look. False where the driver gives no handle."""
        self.grave = {}
        self.handle = self.ask(pynvml.nvmlDeviceGetHandleByIndex, "handle", self.index)
        self._absent.discard("handle")  # a GPU that is not there now may come
        return self.handle is not None

    def read(self, function: str, *arguments: object, key: str = "") -> Any:
        """What NVML's `function` says of this GPU; None where it says nothing. `key` where arguments matter."""
        return self.ask(getattr(pynvml, function, _missing), key or function, self.handle, *arguments)

    def ask(self, call: Any, key: str, *arguments: object) -> Any:
        """The answer of `call`. After "lost" or "reset required" nothing more is asked in this look."""
        if key in self._absent or LOST in self.grave or RESET_REQUIRED in self.grave:
            return None
        try:
            return call(*arguments)
        except pynvml.NVMLError as error:
            self.failed(key, error.value)
        return None

    def failed(self, key: str, code: int) -> None:
        """Remember an error of the question `key`. What is neither for ever nor grave concerns this look alone."""
        if code in GRAVE:
            self.grave.setdefault(code, []).append(key)
        elif code in NOT_HERE:
            self._absent.add(key)

    def fields(self, ids: tuple[int, ...]) -> dict[int, int]:
        """Values of NVML's fields, asked for in one call; those that this GPU does not have are left out."""
        wanted = [each for each in ids if str(each) not in self._absent]
        found = self.read("nvmlDeviceGetFieldValues", wanted) if wanted else None
        values = {}
        for each in found or ():
            if each.nvmlReturn:
                self.failed(str(each.fieldId), each.nvmlReturn)
            else:
                values[int(each.fieldId)] = _field_value(each)
        return values


def _field_value(field: Any) -> int:
    kinds = {
        pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
        pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
    }
    return int(getattr(field.value, kinds.get(field.valueType, "uiVal")))


def _missing(*_arguments: object) -> None:
    """Of bindings that do not have a function: as a driver that does not."""
    raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def pci_address(raw: str) -> str:
    """ "00000000:05:00.0" as events name it: "0000:05:00". The text itself where it has another form."""
    domain, _, rest = raw.partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest.partition('.')[0].lower()}"
    except ValueError:
        return raw
