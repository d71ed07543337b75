"""The private folder of one lab, its id, and the reaper that outlives it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from ryzen_lab import leftovers
from ryzen_protos import run_dir

_LONGEST_SOCKET = "n00/run/jobs/lab/nursery-1234567-01234567.sock"
"""Below the folder. Where it does not fit, Ryzen goes without the flight recorder, and a trial measures that."""


class Place:
    """Context of a lab: a folder and an id on entry; no process and no folder of it left after the exit."""

    def __init__(self) -> None:
        self.lab_id = secrets.token_hex(8)
        self.folder = _new_folder()
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", leftovers.__file__, self.lab_id, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leftovers.end_all(self.lab_id)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait()


def _new_folder() -> Path:
    """In the folder for temporary files; in /tmp where that one's name is too long for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="ryzen-lab-"))
    if len(os.fsencode(folder / _LONGEST_SOCKET)) <= run_dir.SOCKET_PATH_BYTES_MAX:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="ryzen-lab-", dir="/tmp"))
