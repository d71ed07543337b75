"""The private folder of one lab, its id, and the reaper that outlives it."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from ryzen_lab import leftovers


class Place:
    """Context of a lab: a folder and an id on entry; no process and no folder of it left after the exit."""

    def __init__(self) -> None:
        self.lab_id = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="ryzen-lab-"))
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
