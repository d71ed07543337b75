"""The checkpoint folder: room, and now and then a bounded durable write (`write_probe.py`).

A server that does not answer holds this collector's thread; that it stalls is what says so.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.space import LEFT_MIN_BYTES, broken_condition, read_space, space_conditions, space_samples
from ryzen_agent.health.write_probe import WriteProbe

PROBE_EVERY_S = 300.0
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


class CheckpointCollector(Collector):
    """A probe that failed or was slow is repeated at each look until it is well again."""

    name = "checkpoint"
    interval_s = 60.0
    deadline_s = 30.0

    def __init__(
        self,
        settings: HealthSettings,
        now: Callable[[], float] = time.monotonic,
        probe: Callable[[], float] | None = None,
    ) -> None:
        self._folder = settings.checkpoint_folder
        self._now = now
        self._probe = probe
        if probe is None and self._folder is not None:
            self._probe = WriteProbe(self._folder, socket.gethostname(), os.getpid()).write
        self._probed_s: float | None = None
        self._said: tuple[Condition, ...] = ()
        self._samples: tuple[Sample, ...] = ()

    def collect(self) -> Reading:
        folder = self._folder
        if folder is None:
            raise NothingHereError("no checkpoint folder is set")
        try:
            space = read_space(folder)
        except OSError as error:
            if error.errno in _GONE:
                raise NothingHereError(f"no checkpoint folder {folder} yet") from error
            return Reading(conditions=(broken_condition(folder, error),))
        if space.available_bytes >= LEFT_MIN_BYTES:
            self._probe_when_due(folder)
        else:  # what is left is the job's
            self._said, self._samples, self._probed_s = (), (), None
        conditions = (*space_conditions(folder, space), *self._said)
        return Reading(conditions=conditions, samples=(*space_samples(folder, space), *self._samples))

    def _probe_when_due(self, folder: Path) -> None:
        now_s = self._now()
        due = self._probed_s is None or now_s - self._probed_s >= PROBE_EVERY_S
        if self._probe is None or not (due or self._said):
            return
        self._said, self._samples = (), ()
        try:
            took_s = self._probe()
        except OSError as error:
            self._said = self._judge(folder, error)
        else:
            self._samples = (Sample("ryzen.storage.probe.duration", took_s, (("ryzen.folder", str(folder)),)),)
            if took_s > (rules.STORAGE_SLOW.limit or 0.0):
                message = f"a durable write of 4 KiB into {folder} was slow"
                self._said = (rules.STORAGE_SLOW.condition(message, device=str(folder), value=took_s),)
        self._probed_s = now_s

    def _judge(self, folder: Path, error: OSError) -> tuple[Condition, ...]:
        """Raises `error` again where it says nothing about the folder."""
        if error.errno in _GONE:  # removed between two calls
            return ()
        if error.errno == errno.EROFS:
            return (rules.STORAGE_READ_ONLY.condition(f"{folder} is on a read-only file system", device=str(folder)),)
        if error.errno in _FORBIDDEN:
            message = f"user {os.geteuid()} may not write into {folder}: nothing is known of it"
            return (rules.STORAGE_REFUSED.condition(message, device=str(folder)),)
        return (broken_condition(folder, error),)
