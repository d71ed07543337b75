"""Whether `ryzen-agent run` lets torchrun start `ryzen-worker` in place of Python, how that is written, and how the
worker hears of options of the agent that are for it.

Only where it is certain what the user's words mean: a script that ends in .py, or `-m MODULE`, run by torchrun itself.
And only where a `ryzen-worker` of the same interpreter is there, for a rank must not find other packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ryzen_agent.settings import AgentSettings

PROGRAM = "ryzen-worker"
MODULE = {"-m", "--module"}
_WITHOUT_VALUE = {"-h", "--help", "--standalone", "--virtual-local-rank", *MODULE}
_OWN_START = {"--no-python", "--run-path"}
"""The user decides how the script is started."""

_FROM_ENVIRONMENT = ("PET_NO_PYTHON", "PET_RUN_PATH", "PET_MODULE", "PET_STANDALONE")
"""torchrun reads its options from these, too."""

_HEAD_BYTES = 1024


_OPTIONS = ("--preload", "--warm", "--config")
"""Options of the agent that may say something to the worker. What RYZEN_* says reaches it without our help."""


class OptionsError(ValueError):
    """The agent's options are wrong. It has said so."""


def environment(settings: AgentSettings) -> dict[str, str]:
    """What the worker reads of these (ryzen_trainer/worker/place.py)."""
    return {"RYZEN_PRELOAD": ",".join(settings.preload), "RYZEN_WARM": settings.warm}


def read_environment(agent_options: Sequence[str]) -> dict[str, str]:
    """The same, from options that are not parsed yet: in a process of its own, whose memory goes with it.

    Raises OptionsError.
    """
    if not any(each.partition("=")[0] in _OPTIONS for each in agent_options):
        return {}
    command = [sys.executable, "-m", "ryzen_agent.cli", "worker-environment", *agent_options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise OptionsError
    found: dict[str, str] = json.loads(done.stdout)
    return found


def with_worker(command: Sequence[str], at: int) -> list[str]:
    """torchrun's command line with the worker, or as it was. `at`: the word that torchrun's own arguments follow."""
    given = list(command)
    if any(os.environ.get(name) for name in _FROM_ENVIRONMENT):
        return given
    target = _target_at(given, at + 1)
    if target is None:
        return given
    options, words = given[at + 1 : target], given[target:]
    is_module = any(each in MODULE for each in options)
    worker = _worker_of(given, at)
    if worker is None or not (is_module or words[0].endswith(".py")):
        return given
    kept = [each for each in options if each not in MODULE]
    return [*given[: at + 1], *kept, "--no-python", worker, *(["-m"] if is_module else []), *words]


def _target_at(command: list[str], at: int) -> int | None:
    """Index of the script or module. None where there is none, or the user starts it in a way of his own."""
    while at < len(command):
        word = command[at]
        if not word.startswith("-"):
            return at
        name = word.partition("=")[0].replace("_", "-")
        if name in _OWN_START or word == "--":
            return None
        at += 1 if name in _WITHOUT_VALUE or "=" in word or _has_value_attached(word) else 2
    return None


def _has_value_attached(word: str) -> bool:
    """`-t3`: a short option and its value in one word."""
    return not word.startswith("--") and len(word) > 2


def _worker_of(command: list[str], at: int) -> str | None:
    """The worker beside torchrun, or beside the interpreter of `python -m torch.distributed.run`."""
    is_module = command[at] == "torch.distributed.run"
    found = shutil.which(command[at - 2] if is_module else command[at])
    if found is None:
        return None
    worker = Path(found).with_name(PROGRAM)
    if not os.access(worker, os.X_OK):
        return None
    if is_module:
        interpreter = _head(worker)[0].removeprefix(b"#!").strip()
        return str(worker) if os.fsdecode(os.path.dirname(interpreter)) == str(worker.parent) else None  # noqa: PTH120
    return str(worker) if _head(worker) == _head(Path(found)) else None


def _head(program: Path) -> list[bytes]:
    """Its first line, the interpreter; two where pip writes a long path as a shell's `exec`. Other second lines are
    those of the program that has installed it, and of no meaning."""
    try:
        with program.open("rb") as file:
            lines = file.read(_HEAD_BYTES).split(b"\n", 2)
    except OSError:
        return [b""]
    return lines[:2] if lines[0] == b"#!/bin/sh" else lines[:1]
