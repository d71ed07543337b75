"""What a rank leaves open for its node's agent to look into, should the job stand still.

    jobs/<run_id>/rank-<local>.sock              torch's own worker server: the flight recorder
    jobs/<run_id>/evidence/rank-<local>.groups   members of its process groups, JSON
    jobs/<run_id>/evidence/rank-<local>.stack    where faulthandler writes when it is signalled

The worker server answers from C++ threads, so the flight recorder can be read though the main thread hangs and
even though it holds the interpreter's lock. Where the agent may not read a rank's memory (py-spy), it asks for the
stack by a real-time signal instead; it sends it only to a process that catches it.

Torch is used as far as the script has imported it, and never imported from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

from ryzen_protos import run_dir

_BINDINGS = "torch._C._distributed_c10d"
_C10D = "torch.distributed.distributed_c10d"


class Collectives:
    """Counts the collectives of this rank, and keeps the members of its process groups in a file for the agent.

    A file, because a Python handler of the worker server would wait for the interpreter's lock: asked while the
    interpreter finalises, its thread is ended inside C++, which aborts the process (seen with torch 2.13).
    """

    def __init__(self, groups_file: Path | None = None) -> None:
        self._groups_file = groups_file
        self._groups = 0

    def begun(self) -> int:
        """How many this rank has begun on the default process group; 0 where there is none to ask. Never raises.

        Nothing is remembered between calls: a script may destroy its group and make another. It costs a third of a
        microsecond.
        """
        c10d = sys.modules.get(_C10D)
        if c10d is None:
            return 0
        try:
            world = c10d._world
            if len(world.pg_names) != self._groups:
                self._keep_groups(world)
            group = world.default_pg
            return 0 if group is None else int(group._get_sequence_number_for_group())
        except Exception:  # noqa: BLE001 - a backend that does not count may raise anything, and the loop shall not see it
            return 0

    def _keep_groups(self, world: Any) -> None:
        self._groups = len(world.pg_names)
        path = self._groups_file
        if path is None:
            return
        with contextlib.suppress(OSError):
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_text(json.dumps(process_groups(world)))
            aside.replace(path)


def torch_is_loaded() -> bool:
    """Whether the script has imported torch with its distributed part."""
    return _BINDINGS in sys.modules and _C10D in sys.modules


def serve(path: Path) -> bool:
    """Open the worker server of this process at `path`. False where that cannot be; never raises."""
    try:
        bindings: Any = sys.modules[_BINDINGS]
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # of the generation before
        _keep_for_ever(bindings._WorkerServer(str(path)))
        path.chmod(0o600)
    except Exception:  # noqa: BLE001 - a private interface of torch: whatever it does, the script goes on
        return False
    return True


def write_stack_on_signal(path: Path) -> bool:
    """Let `run_dir.STACK_SIGNAL` write the main thread's stack to `path`. False where that cannot be; never raises.

    A signal that the script uses itself is left alone. The kernel hands a signal that is sent to a process to its
    main thread unless that blocks it, and the handler writes the stack of the thread it runs in.
    """
    try:
        if not _is_default(run_dir.STACK_SIGNAL):
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        faulthandler.register(run_dir.STACK_SIGNAL, file=descriptor, all_threads=False, chain=False)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def process_groups(world: Any) -> dict[str, list[int]]:
    """The process groups that this rank belongs to, with their members' global ranks."""
    names = world.pg_names
    return {str(names[group]): sorted(ranks) for group, ranks in list(world.pg_group_ranks.items())}


def _keep_for_ever(thing: object) -> None:
    """A reference that finalising the interpreter does not take back.

    C++ lets go of the server without the interpreter's lock: were that the last reference, the process would abort
    at its exit (seen with torch 2.13).
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _is_default(number: int) -> bool:
    """Asked of the kernel: Python does not know of handlers that C code has set."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, mask = line.partition(":")
        if key in {"SigCgt", "SigIgn"} and int(mask, 16) >> (number - 1) & 1:
            return False
    return True
