"""What NVIDIA's driver says by itself: Xids, a changed recovery action, a GPU that has become unavailable.

The second source of Xids, for an agent that may not read the kernel log; not all of them come this way (79 and 119
have been missed). The wait has a thread of its own, and so has each GPU's registration: one that hangs costs the
others no event.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import pynvml

from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.gpu import access
from ryzen_agent.health.gpu.rules.state import RECOVERY
from ryzen_agent.health.model import Action, Event, Reading
from ryzen_agent.health.settings import HealthSettings

XID = 0x8
UNAVAILABLE = 0x4000
RECOVERY_ACTION = 0x8000
"""Event types of nvml.h; the last two since driver 570 or so, so asked for only where they are supported."""

WAIT_MS = 5000
"""Of one look without an event: half of the deadline."""

FAILED_S = 1.0
"""Before the next try where the driver has refused to wait."""

REGISTER_S = 3.0
AGAIN_S = 60.0
"""After so long a GPU that could not be registered is tried again."""

AT_ONCE_MAX = 256
NO_INSTANCE = 0xFFFFFFFF
XID_RECOVERY_ACTION_CHANGED = 154
WITHDRAWN: Action = "ignore"


@dataclass(frozen=True, slots=True)
class Registered:
    """A GPU whose events are waited for."""

    index: int
    uuid: str
    pci: str


class GpuEventsCollector(Collector):
    """Each `collect` waits up to `WAIT_MS`, and returns with the first event and what came with it."""

    name = "gpu_events"
    interval_s = 0.05
    sources = access.SOURCES

    def __init__(self, settings: HealthSettings) -> None:  # noqa: ARG002 - as every collector is made
        self._set: Any = None
        self._registered: dict[int, Registered] = {}  # by the address of the driver's handle
        self._registrars: dict[int, threading.Thread] = {}
        self._tried_at_s = 0.0
        self._stopped = threading.Event()

    def collect(self) -> Reading:
        """Events that have come. Raises NothingHereError without an NVIDIA driver that can be used."""
        try:
            self._register(access.open_driver())
        except (access.DriverError, NothingHereError) as error:
            raise NothingHereError(str(error)) from error
        events: list[Event] = []
        while len(events) < AT_ONCE_MAX and (event := self._next(0 if events else WAIT_MS)) is not None:
            events.append(event)
        return Reading(events=tuple(events), devices=tuple((each.pci, each.uuid) for each in self._registered.values()))

    def interrupt(self) -> None:
        """The wait itself cannot be woken; nobody waits for its end."""
        self._stopped.set()

    def _next(self, wait_ms: int) -> Event | None:
        if self._stopped.is_set():
            return None
        try:
            return self._as_event(pynvml.nvmlEventSetWait_v2(self._set, wait_ms))
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:  # a lost GPU may answer at once, again and again
                self._stopped.wait(min(wait_ms / 1000, FAILED_S))
            return None

    def _as_event(self, data: Any) -> Event | None:
        gpu = self._registered.get(_address(data.device), Registered(-1, "", ""))
        unit = "" if data.gpuInstanceId == NO_INSTANCE else f"GPU-I {data.gpuInstanceId}"
        told = _told(int(data.eventType), int(data.eventData))
        return None if told is None else replace(told, device=gpu.uuid or gpu.pci, pci=gpu.pci, unit=unit)

    # ------------------------------------------------------------------ registration

    def _register(self, count: int) -> None:
        """Wait for the events of every GPU that is not waited for yet, each in a thread that may hang."""
        now_s = time.monotonic()
        done = {each.index for each in self._registered.values()}
        missing = [each for each in range(count) if each not in done]
        if not missing or (self._set is not None and now_s - self._tried_at_s < AGAIN_S):
            return
        self._tried_at_s = now_s
        if self._set is None:
            self._set = pynvml.nvmlEventSetCreate()
        for index in missing:
            if index not in self._registrars or not self._registrars[index].is_alive():
                thread = threading.Thread(target=self._register_one, args=(index,), daemon=True)
                self._registrars[index] = thread
                thread.start()
        until_s = now_s + REGISTER_S
        for thread in self._registrars.values():
            thread.join(max(until_s - time.monotonic(), 0.0))

    def _register_one(self, index: int) -> None:
        device = access.Device(index)
        if not device.begin():
            return
        wanted = (XID | UNAVAILABLE | RECOVERY_ACTION) & (device.read("nvmlDeviceGetSupportedEventTypes") or XID)
        pci, uuid = device.read("nvmlDeviceGetPciInfo"), device.read("nvmlDeviceGetUUID")
        try:
            pynvml.nvmlDeviceRegisterEvents(device.handle, wanted, self._set)
        except pynvml.NVMLError:
            return
        address = access.pci_address(pci.busId) if pci is not None else ""
        self._registered = {**self._registered, _address(device.handle): Registered(index, uuid or "", address)}


def _told(kind: int, data: int) -> Event | None:
    """An event of the driver, without its GPU. None for a kind that nobody asked for."""
    now_s = time.time()
    if kind == XID:
        return Event("xid", f"the driver tells Xid {data}", now_s, code=data)
    if kind == RECOVERY_ACTION:
        words, action = RECOVERY.get(data, ("", WITHDRAWN))
        said = f"the driver wants somebody to {words}" if words else "the driver withdraws its recovery action"
        return Event("xid", said, now_s, code=XID_RECOVERY_ACTION_CHANGED, action=action)
    if kind == UNAVAILABLE:
        return Event("gpu", "the driver says that the GPU is unavailable", now_s, action="reset_gpu")
    return None


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
