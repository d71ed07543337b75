"""Room on a file system, as df(1) counts it: what is kept for root is not available."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.model import Condition, Sample

LEFT_MIN_BYTES = 16 << 20
"""With less, nothing is written for a probe."""
BROKEN = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EREMOTEIO,
        errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO, errno.EUCLEAN, errno.EHOSTDOWN, errno.EFBIG,
    }
)  # fmt: skip
"""Answers that say that the file system is not well."""


class Space(NamedTuple):
    """Percents used; bytes that a user can still write. `device` tells one file system from another."""

    device: int
    used_percent: float
    inodes_used_percent: float
    available_bytes: int


def used(total: int, free: int, available: int) -> float:
    """Percent, of what users can have; 0 where the file system does not count (inodes of btrfs and many of the net)."""
    taken = total - free
    return 100.0 * taken / (taken + available) if taken + available > 0 else 0.0


def read_space(folder: Path) -> Space:
    """Raises OSError; may never return where a server is gone."""
    device = os.stat(folder).st_dev  # noqa: PTH116 - beside statvfs
    room = os.statvfs(folder)
    return Space(
        device,
        used(room.f_blocks, room.f_bfree, room.f_bavail),
        used(room.f_files, room.f_ffree, room.f_favail),
        room.f_bavail * room.f_frsize,
    )


def space_conditions(folder: Path, space: Space) -> Iterator[Condition]:
    """Full or exhausted; not both."""
    what, percent = max(("space", space.used_percent), ("inodes", space.inodes_used_percent), key=lambda each: each[1])
    if percent >= (rules.STORAGE_EXHAUSTED.limit or 100.0) or space.available_bytes < LEFT_MIN_BYTES:
        rule = rules.STORAGE_EXHAUSTED
    elif percent >= (rules.STORAGE_FULL.limit or 100.0):
        rule = rules.STORAGE_FULL
    else:
        return
    yield rule.condition(f"{what} of {folder} used up to {int(percent)} %", device=str(folder), value=percent)


def space_samples(folder: Path, space: Space) -> Iterator[Sample]:
    yield Sample("system.filesystem.utilization", space.used_percent / 100.0, (("ryzen.folder", str(folder)),))


def broken_condition(folder: Path, error: OSError) -> Condition:
    """Raises `error` again where it does not speak of the file system."""
    if error.errno not in BROKEN:
        raise error
    return rules.STORAGE_UNWRITABLE.condition(f"{folder}: {error.strerror}", device=str(folder))
