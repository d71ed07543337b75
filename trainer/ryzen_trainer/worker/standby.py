"""`RYZEN_WARM=context`: beside each rank a parked process that has its device's context, for the next restart.

Creating a context (CUDA, cuBLAS handles aside) takes some tenths of a second that a fork cannot give, for a process
with a context must not be forked. So it is forked first, from the nursery that has none, and then made:

    request of a generation ──► rank                      a fork, or the process parked for it
                          └───► parked, PARK_AFTER_S later: a fork that has put on the same surroundings, has touched
                                the device that the script will use, and waits for the next request

A parked process takes one generation. It is used only if what it has put on is what the new request brings, but for
what torchrun says anew to each generation; else it is killed and the rank is a fresh fork. It dies with its nursery.

What it costs: one context of each device twice (its size has not been measured), and the rank finds CUDA initialised:
a script that forks processes which use CUDA before it uses any itself would fail. Hence off by default.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

from ryzen_trainer.worker import surroundings, wire
from ryzen_trainer.worker.place import CONTEXT, WARM
from ryzen_trainer.worker.wire import Fields

PARK_AFTER_S = 3.0
"""After the rank's start. Too low: the parked process takes time from the rank's own start, and for nothing if that
does not live. Too high: a rank that dies soon finds nobody parked."""

HAND_OVER_S_MAX = 2.0
"""For a parked process to take a request. Too high: a stopped one holds up a restart."""

_OF_A_GENERATION = (
    "RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_", "TORCH_ELASTIC_", "RYZEN_",
)  # fmt: skip
"""How the names of variables begin that torchrun and its rendezvous set for each generation anew."""

_SAID_ANEW = {b"rank", b"mode", b"argument", b"streams"}


def is_wanted(request: Fields) -> bool:
    return surroundings.environment(request).get(WARM.encode()) == CONTEXT.encode()


def fits(parked: Fields, request: Fields) -> bool:
    """Whether a process that has put on `parked` may become the rank of `request`."""
    return _lasting(parked) == _lasting(request)


def _lasting(request: Fields) -> Fields:
    names = tuple(os.fsencode(each) for each in _OF_A_GENERATION)
    kept = [pair for pair in request if pair[0] not in _SAID_ANEW]
    return sorted(pair for pair in kept if pair[0] != b"environment" or not pair[1].startswith(names))


def wait(handover: socket.socket, request: Fields) -> tuple[Fields, list[int]]:
    """In the parked process, with a connection to the nursery: touch the device, then wait for a request to become.

    Never returns where there comes none.
    """
    try:
        began_s = time.monotonic()
        surroundings.put_on(request)
        device = touch_device()
        took_s = time.monotonic() - began_s
        wire.send(handover, [(b"parked", os.fsencode(device)), (b"seconds", b"%.3f" % took_s)])
        found, descriptors = wire.receive(handover, descriptors_max=4)
    except BaseException as error:  # noqa: BLE001 - it is nobody's rank yet
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        wire.try_send(handover, [(b"unfit", os.fsencode(text))])
        os._exit(0)
    if not found:
        os._exit(0)
    handover.close()
    return found, descriptors


def touch_device() -> str:
    """Make the context of the device that a script below torchrun takes, and nothing else: the current device, the
    memory that is held and the random sources stay as they were. Its name; "cpu" where there is no other.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank if local_rank < torch.cuda.device_count() else 0)
    torch.empty(1, device=device)
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    return str(device)
