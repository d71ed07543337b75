"""What the bench must know of another tool: how it is installed and started, and what it cannot do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ryzen_lab.launcher import Launcher

ROOT = Path(__file__).parents[4]
"""Of the repository."""
ENVIRONMENTS = ROOT / ".peers"
"""One virtual environment each; not tracked."""
STAMP = "installed.txt"
"""In an environment that is complete: the requirements that were installed. pip may have been cut off before."""
_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Variant:
    """One way to run a tool: a row of the tables."""

    id: str
    name: str
    note: str
    """A sentence for under the tables: what it is, what its user has to do for it."""
    launcher: Launcher | None = None
    """None: Ryzen."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the trial."""


@dataclass(frozen=True)
class Peer:
    """A tool."""

    name: str
    variants: tuple[Variant, ...]
    package: str
    """Whose version is stated."""
    requirements: tuple[str, ...] = ()
    """For pip, in an environment of its own; none: it is in the lab's."""
    unfit: str = ""
    """Why it cannot be measured by the same script; then it is a row with these words."""

    @property
    def folder(self) -> Path:
        return environment_of(self.name)

    @property
    def is_installed(self) -> bool:
        """Whether its environment is complete, with just these requirements."""
        stamp = self.folder / STAMP
        return not self.requirements or (stamp.exists() and stamp.read_text() == self.stamp)

    @property
    def stamp(self) -> str:
        return "\n".join(self.requirements) + "\n"

    def missing(self) -> str:
        """Why it cannot be started here; "" where it can."""
        if self.unfit:
            return self.unfit
        return "" if self.is_installed else "not installed: `make bench-peers` does"

    def versions(self, own_python: str) -> dict[str, str]:
        """Of Python, torch and the package; empty where it is not installed."""
        python = str(self.folder / "bin" / "python") if self.requirements else own_python
        if not Path(python).exists():
            return {}
        command = [python, "-I", "-c", _VERSIONS, "torch", self.package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found


def environment_of(name: str) -> Path:
    return ENVIRONMENTS / name


def program_of(name: str, program: str) -> str:
    """A program in a peer's environment."""
    return str(environment_of(name) / "bin" / program)
