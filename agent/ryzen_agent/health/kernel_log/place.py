"""How far a log has been read, on disk, so that a restarted agent neither tells things twice nor misses what was said.

One small JSON file in the agent's private folder. It is a hint: of another boot, another file or damaged, it is as if
there were none, and the log is read from the look-back on.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "kernel_log.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """`seq`: next record of the device in boot `boot_id`. `inode` on `device`, `offset`: next byte of a file."""

    path: str
    boot_id: str
    seq: int = 0
    device: int = 0
    inode: int = 0
    offset: int = 0


def boot_id(proc: Path) -> str:
    """Of the running kernel; "" where it is not told."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def load(folder: Path, path: Path) -> Place | None:
    """Where the log at `path` was left; None where that is not known."""
    try:
        fields = json.loads((folder / FILE).read_text())
        place = Place(**fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s: damaged (%s): the kernel log is read from the look-back on", folder / FILE, error)
        return None
    numbers = (place.seq, place.device, place.inode, place.offset)
    if not all(isinstance(each, int) and each >= 0 for each in numbers) or place.path != str(path):
        return None
    return place


def save(folder: Path, place: Place) -> None:
    """Written aside, forced to the disk, renamed. Raises OSError."""
    aside = folder / f"{FILE}.new"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(asdict(place)).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(folder / FILE)
