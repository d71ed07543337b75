"""Installs the peers, each into a virtual environment of its own below `.peers/`; none is ever a dependency.

Besides its own requirements each gets what the reference trainer needs, with the torch of the lab's constraints.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

from ryzen_lab.bench.peers import Peer
from ryzen_lab.bench.peers.base import ENVIRONMENTS, ROOT, STAMP


def install(peer: Peer, say: Callable[[str], None]) -> str:
    """Why it could not be installed, in a line; "" where it is. What is there already and complete stays."""
    if peer.unfit or peer.is_installed:
        return ""
    say(f"{peer.name}: installs {' '.join(peer.requirements)} into {peer.folder.relative_to(ROOT)}")
    shutil.rmtree(peer.folder, ignore_errors=True)
    ENVIRONMENTS.mkdir(exist_ok=True)
    python = str(peer.folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(peer.folder)],
        [*pip, "-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[trainer]", *peer.requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = [each for each in (done.stderr + done.stdout).splitlines() if each.strip()]
            return said[-1].strip() if said else f"exit code {done.returncode} of {command[2]}"
    (peer.folder / STAMP).write_text(peer.stamp)
    return ""
