"""A nursery before its first stub: founded while torchrun waits for a world, so that the imports are done by then.

A spare is parked in the rendezvous for hours and then needed at once; a job's first start has its own rendezvous to
wait for. Only a stub knows for certain which nursery a stub will ask for: the key holds its interpreter and the
environment that torchrun gives it. So the very command that torchrun will start is started with `--found` in front
(stub.py). That founds the nursery, or finds one that still serves, and ends. It is called again and again for as long
as torchrun waits: whatever has become of the nursery, another is there soon.

What can go wrong here costs the time of the imports later, and is said by the rank that then starts.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence

from ryzen_trainer.worker.place import RANKS_OWN

AGAIN_S = 30.0
"""Between two looks whether the nursery serves; each takes some hundredths of a second of CPU. Too high: a spare whose
nursery has died, or whose modules have changed on disk, is cold for that long."""

AFTER_RESTART_S = 2.0
"""A node whose ranks ran a moment ago has a nursery, and soon a world again: it is not disturbed before."""


class Founding:
    """Of one torchrun: this process. `command`: as torchrun will start local rank 0, empty where nothing is forked."""

    def __init__(self, command: Sequence[str], run_id: str) -> None:
        self._command = [*command[:1], "--found", *command[1:]] if command else []
        self._run_id = run_id
        self._process: subprocess.Popen[bytes] | None = None

    def found(self) -> None:
        """Start what founds it, unless it is at that already. Returns at once, raises nothing."""
        if not self._command or (self._process is not None and self._process.poll() is None):
            return
        environment = {name: value for name, value in os.environ.items() if name not in RANKS_OWN}
        environment.update(TORCHELASTIC_RUN_ID=self._run_id, LOCAL_RANK="0")
        try:
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
            threading.Thread(target=self._process.wait, name="ryzen-founding", daemon=True).start()
        except (OSError, RuntimeError):
            return  # no such program, no process or no thread to be had: torchrun will say the same of its ranks
