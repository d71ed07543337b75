"""Opens a kernel log, whatever it is, at the first line that has not been told."""

from __future__ import annotations

import stat
import time

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.kernel_log import place as places
from ryzen_agent.health.kernel_log.device import Device
from ryzen_agent.health.kernel_log.place import Place
from ryzen_agent.health.kernel_log.source import Source
from ryzen_agent.health.kernel_log.textfile import Fifo, TextFile
from ryzen_agent.health.settings import HealthSettings


def open_log(settings: HealthSettings, left: Place | None, is_new: bool) -> Source:
    """`left`: where this process has left it, else the note on disk says. `is_new`: it was not there before.

    Raises FileNotFoundError, PermissionError with what is missing, NothingHereError where it cannot be a log, OSError.
    """
    path = settings.kmsg_path
    if left is None and settings.state_folder is not None:
        left = places.load(settings.state_folder, path)
    boot_id = places.boot_id(settings.proc)
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode):
            seq = left.seq if left is not None and left.boot_id == boot_id != "" else None
            return Device(path, boot_id, seq, int((time.monotonic() - settings.kmsg_lookback_s) * 1e6))
        if stat.S_ISFIFO(mode):
            return Fifo(path, boot_id)
        if stat.S_ISREG(mode):
            return TextFile(path, boot_id, left, time.time() - settings.kmsg_lookback_s, is_new)
    except PermissionError as error:
        raise PermissionError(
            f"{path}: not permitted: run the agent as root, give it CAP_SYSLOG, or set kernel.dmesg_restrict=0"
        ) from error
    raise NothingHereError(f"{path} is no log: neither a device, nor a file, nor a FIFO")
