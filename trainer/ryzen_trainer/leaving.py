"""Gloo's threads let go of their last tensors before the interpreter is gone.

A thread of gloo's process group tells the caller that a collective is done, and only then lets go of it: of its
tensors, and with them of Python objects, for which it needs the interpreter's lock. If the main thread is first, and
begins to finalise the interpreter, CPython ends the thread where it asks for the lock, inside a C++ destructor:
"terminate called without an active exception", the rank is aborted after its last step (seen in torch 2.13 on Python
3.11; torch's issue 190489). A destructor of the group that waits for that thread and holds the lock would wait for
ever. A script without Ryzen has the same race; a checkpoint's many small collectives near the end, a group that
somebody still holds after `destroy_process_group` and a busy machine make it likelier.

So the main thread sleeps at exit, without the lock, until these threads have nothing to do: two looks on an idle
machine. Nothing of torch is shut down, kept or changed. A thread that happens to sleep between the two, or gets no
processor for a second, is not waited for: the race is made rare, and only torch can end it.
"""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path

GLOO_THREAD = "pt_gloo_runloop"
"""What torch names them. Where it names them otherwise, nothing is waited for."""

LOOK_S = 0.002
LIMIT_S = 1.0
"""A thread that is always busy is not waited for; on a loaded machine one may not get a processor for that long."""

_Look = dict[int, str]  # how often each sleeping thread has left its processor, as the kernel says it

_registered_in = 0


def let_gloo_finish_at_exit() -> None:
    """At the interpreter's end, as late as handlers run: those that are registered after this come before it."""
    global _registered_in
    if _registered_in != os.getpid():
        _registered_in = os.getpid()
        atexit.register(_in_this_process, _registered_in)


def let_gloo_finish(limit_s: float = LIMIT_S) -> bool:
    """Give the interpreter's lock away until gloo's threads sleep. Whether they do; never raises.

    One that waits for a peer sleeps too: it holds nothing up, here or later.
    """
    end = time.monotonic() + limit_s
    before: _Look | None = None
    while (look := _asleep()) is None or look:
        if look is not None and look == before:
            return True
        if time.monotonic() >= end:
            return False
        before = look
        time.sleep(LOOK_S)
    return True


def _in_this_process(pid: int) -> None:
    if pid == os.getpid():  # not in a fork of it
        let_gloo_finish()


def _asleep() -> _Look | None:
    """Gloo's threads with their context switches; None if one of them runs or wants to."""
    found: _Look = {}
    try:
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().strip() != GLOO_THREAD:
                continue
            status = (task / "status").read_text()
            if "\nState:\tS" not in status:
                return None
            found[int(task.name)] = status[status.index("voluntary_ctxt_switches") :]
    except (OSError, ValueError):  # a thread that ends meanwhile
        return None
    return found
