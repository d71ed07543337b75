"""Real servers as child processes of a test: started on a free port of loopback, awaited, ended."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".servers"
WHY_NOT = "why-not.txt"
"""Both as scripts/install_servers.py has them."""

START_WAIT_S = 60.0
"""They are ready in a fifth of a second (measured); a machine that is busy takes longer."""


def program(name: str) -> Path:
    """The path of an installed server; the test is skipped, with the reason, where it could not be had."""
    path = FOLDER / name
    if not path.exists():
        why = FOLDER / WHY_NOT
        reason = why.read_text().strip() if why.exists() else "not installed: python scripts/install_servers.py"
        pytest.skip(f"{name}: {reason}")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that answers HTTP at `url`."""

    def __init__(self, command: list[str], url: str, ready: str, log: Path) -> None:
        self.url, self.log = url, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            self._await(ready)
        except BaseException:
            self.stop()
            raise

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310 - our own address
            return bytes(answer.read())

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await(self, path: str) -> None:
        until = time.monotonic() + START_WAIT_S
        while True:
            try:
                self.get(path)
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
            else:
                return
