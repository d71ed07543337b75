"""What a process inherits from the one that starts it: read in the stub, put on in the forked rank.

Both halves of one thing stand together here, each in the order of `wire` names: arguments, environment, cwd, umask,
niceness, affinity, limits, signals, the OOM killer's opinion. Descriptors 0 to 2 travel beside it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys

from ryzen_trainer.worker import wire
from ryzen_trainer.worker.wire import Fields

SCRIPT, MODULE = b"script", b"module"

_OOM = "/proc/self/oom_score_adj"
_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
"""Python ignores these in every process; that they are ignored was no wish of torchrun's."""


def read(mode: bytes, arguments: list[str]) -> Fields:
    """Of this process. `arguments`: the script or module, and its own. Raises OSError where the cwd is gone."""
    fields: Fields = [(b"mode", mode)]
    fields += [(b"argument", os.fsencode(each)) for each in arguments]
    fields += [(b"environment", name + b"=" + value) for name, value in os.environb.items()]
    fields += [
        (b"cwd", os.fsencode(os.getcwd())),  # noqa: PTH109 - no Path needed
        (b"umask", b"%d" % _umask()),
        (b"nice", b"%d" % os.getpriority(os.PRIO_PROCESS, 0)),
        (b"affinity", _numbers(sorted(os.sched_getaffinity(0)))),
        (b"ignored", _numbers(sorted(_ignored()))),
        (b"blocked", _numbers(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))),
        (b"oom", _read_oom()),
    ]
    fields += [(b"limit", _numbers([each, *resource.getrlimit(each)])) for each in _limits()]
    return fields


def standard_descriptors() -> tuple[list[int], bytes]:
    """Which of 0, 1, 2 are open, and the same as a field's value. Call it before anything else opens a file."""
    is_open = []
    for each in (0, 1, 2):
        try:
            os.fstat(each)
            is_open.append(each)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # so that nothing of ours takes the place; not passed on at an exec
    return is_open, _numbers(is_open)


def put_on(fields: Fields, descriptors: list[int]) -> None:
    """Make them this process's. Raises OSError or ValueError where one is not allowed."""
    _put_on_streams([int(each) for each in wire.only(fields, b"streams").split()], descriptors)
    os.environ.clear()
    for each in wire.every(fields, b"environment"):
        name, _, value = each.partition(b"=")
        os.environb[name] = value
    os.umask(int(wire.only(fields, b"umask")))
    for each in wire.every(fields, b"limit"):
        number, soft, hard = (int(part) for part in each.split())
        if resource.getrlimit(number) != (soft, hard):
            resource.setrlimit(number, (soft, hard))
    _put_on_scheduling(fields)
    with contextlib.suppress(OSError):  # to lower it takes a right that a rank need not have
        _write_oom(wire.only(fields, b"oom"))
    os.chdir(os.fsdecode(wire.only(fields, b"cwd")))
    _put_on_signals(fields)


def _put_on_streams(places: list[int], descriptors: list[int]) -> None:
    """As torchrun redirected them. The stream objects stay those of the nursery, which runs unbuffered like a rank."""
    if len(places) != len(descriptors):
        raise ValueError(f"{len(descriptors)} descriptors came for {len(places)} streams")
    for place, descriptor in zip(places, descriptors, strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        if place not in places:  # closed: Python has no such stream then
            os.close(place)
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
        elif place:
            getattr(sys, name).reconfigure(line_buffering=os.isatty(place), write_through=True)


def _put_on_scheduling(fields: Fields) -> None:
    nice = int(wire.only(fields, b"nice"))
    if os.getpriority(os.PRIO_PROCESS, 0) != nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    affinity = {int(each) for each in wire.only(fields, b"affinity").split()}
    if os.sched_getaffinity(0) != affinity:
        os.sched_setaffinity(0, affinity)


def _put_on_signals(fields: Fields) -> None:
    for each in wire.only(fields, b"ignored").split():
        signal.signal(int(each), signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [int(each) for each in wire.only(fields, b"blocked").split()])


def _limits() -> list[int]:
    return sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def _ignored() -> set[int]:
    every = signal.valid_signals() - _PYTHONS_OWN
    return {int(each) for each in every if signal.getsignal(each) is signal.SIG_IGN}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _read_oom() -> bytes:
    try:
        with open(_OOM, "rb") as file:  # noqa: PTH123 - no Path needed
            return file.read().strip()
    except OSError:
        return b""


def _write_oom(value: bytes) -> None:
    if value and value != _read_oom():
        with open(_OOM, "wb") as file:  # noqa: PTH123
            file.write(value)


def _numbers(values: list[int]) -> bytes:
    return b" ".join(b"%d" % each for each in values)
