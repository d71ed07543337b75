"""What `ryzen-worker` imports until it has asked for its rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TOO_SLOW = {
    "asyncio", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "inspect", "logging",
    "pathlib", "re", "selectors", "signal", "socket", "struct", "subprocess", "tempfile", "threading", "torch",
    "typing", "urllib",
}  # fmt: skip

ASKS_AND_ENDS = """
import os, sys
before = set(sys.modules)
from ryzen_trainer.worker import stub
import _socket
stub.reached_or_locked = lambda place: (_socket.socketpair()[0], -1)

def asked(channel, request, descriptors):
    text = repr(sorted(set(sys.modules) - before)).replace("'", '"')
    os.write(1, text.encode())
    os._exit(0 if request[0][0] == stub.wire.RANK else 1)

stub.wire.send = asked
sys.argv[1:] = ["train.py"]
stub.main()
"""


def test_until_a_worker_has_asked_for_its_rank_it_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    given = {"TORCHELASTIC_RUN_ID": "job", "LOCAL_RANK": "0", "RYZEN_RUN_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ASKS_AND_ENDS], env=os.environ | given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert "ryzen_trainer.worker.wire" in imported
    assert not imported & TOO_SLOW
