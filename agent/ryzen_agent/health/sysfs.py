"""Files of one line in /sys and /proc, read at the least cost.

A driver may write a line into the kernel log for each attribute it refuses: mlx5 does for the counters of restricted
functions (`mlx5_cmd_out_err ... ACCESS_REG(0x805)`). So a file that was refused once is not asked for again.
"""

from __future__ import annotations

import errno
import os

_REFUSED = frozenset({errno.EINVAL, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EREMOTEIO})
_NOT_NOW = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.ESRCH, errno.EIO, errno.ETIMEDOUT, errno.EBUSY}
)
_BYTES = 65536


def read_whole(path: str) -> str:
    """Without the seeks and the look at the size that `Path.read_text` begins with. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        first = os.read(descriptor, _BYTES)
        rest = b"".join(iter(lambda: os.read(descriptor, _BYTES), b"")) if len(first) >= 4096 else b""
    finally:
        os.close(descriptor)
    return (first + rest).decode(errors="replace")


def parse_number(text: str | None) -> int | None:
    """A counter; None for what is none ("N/A (no PMA)", "")."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return None


class SmallFiles:
    """Reads, and remembers what was refused. None: refused, absent, or the device is not well now; else it raises."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def text(self, path: str) -> str | None:
        if path in self._refused:
            return None
        try:
            return read_whole(path).strip()
        except OSError as error:
            if error.errno in _REFUSED:
                self._refused.add(path)
                return None
            if error.errno in _NOT_NOW:
                return None
            raise

    def number(self, path: str) -> int | None:
        return parse_number(self.text(path))
