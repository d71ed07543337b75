"""What a process inherits from the one that starts it: read in the stub, put on in the forked rank.

Both halves of one thing stand together here, each in the order of `wire` names: arguments, environment, cwd, umask,
niceness, scheduler, affinity, NUMA policy, limits, signals, what a core holds, the OOM killer's opinion. Descriptors 0
to 2 travel beside it. What a process cannot put on (control groups, namespaces, rights) must be the nursery's already.
"""

from __future__ import annotations

import os
import resource
import sys

from ryzen_trainer.worker import numa, wire
from ryzen_trainer.worker.wire import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:  # what `signal` wraps in enums, which take longer to import than all of this; see stub.py
    import _signal as signal

SCRIPT, MODULE = b"script", b"module"

_OOM = "/proc/self/oom_score_adj"
_CORE = "/proc/self/coredump_filter"
_RIGHTS = (b"Uid", b"Gid", b"Groups", b"CapEff", b"CapBnd", b"NoNewPrivs", b"Seccomp")
"""Lines of /proc/self/status."""

_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
"""Python ignores these in every process; that they are ignored was no wish of torchrun's."""


def read(mode: bytes, arguments: list[str]) -> Fields:
    """Of this process. `arguments`: the script or module, and its own. Raises OSError where the cwd is gone."""
    fields: Fields = [(b"mode", mode)]
    fields += [(b"argument", os.fsencode(each)) for each in arguments]
    fields += [(b"environment", name + b"=" + value) for name, value in os.environb.items()]
    fields += [
        (b"cwd", os.fsencode(os.getcwd())),
        (b"umask", b"%d" % _umask()),
        (b"nice", b"%d" % os.getpriority(os.PRIO_PROCESS, 0)),
        (b"scheduler", _numbers([os.sched_getscheduler(0), os.sched_getparam(0).sched_priority])),
        (b"affinity", _numbers(sorted(os.sched_getaffinity(0)))),
        (b"memory policy", os.fsencode(numa.policy())),
        (b"ignored", _numbers(sorted(_ignored()))),
        (b"blocked", _numbers(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))),
        (b"oom", _read(_OOM)),
        (b"core", _read(_CORE)),
    ]
    fields += [(b"limit", _numbers([each, *resource.getrlimit(each)])) for each in _limits()]
    fields += [(b"fixed", each) for each in fixed()]
    return fields


def fixed() -> list[bytes]:
    """NAME=VALUE of what a process is born into: control groups, namespaces, rights."""
    status = (line.partition(b":") for line in _read("/proc/self/status").splitlines())
    found = [b"cgroup=" + _read("/proc/self/cgroup")]
    found += [name + b"=" + value.strip() for name, _, value in status if name in _RIGHTS]
    try:
        for name in sorted(os.listdir("/proc/self/ns")):
            found.append(os.fsencode(f"{name} namespace={os.readlink(f'/proc/self/ns/{name}')}"))
    except OSError:
        pass
    return found


def unlike(fields: Fields) -> str:
    """The name of something fixed that this process has otherwise; "" where there is none."""
    theirs, own = wire.every(fields, b"fixed"), set(fixed())
    other = next((each for each in theirs if each not in own), b"")
    return os.fsdecode(other.partition(b"=")[0])


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


def environment(fields: Fields) -> dict[bytes, bytes]:
    pairs = (each.partition(b"=") for each in wire.every(fields, b"environment"))
    return {name: value for name, _, value in pairs}


def put_on(fields: Fields) -> None:
    """Make all but the streams this process's. Raises OSError or ValueError where one is not allowed."""
    os.environ.clear()
    os.environb.update(environment(fields))
    os.umask(int(wire.only(fields, b"umask")))
    for each in wire.every(fields, b"limit"):
        number, soft, hard = (int(part) for part in each.split())
        if resource.getrlimit(number) != (soft, hard):
            resource.setrlimit(number, (soft, hard))
    _put_on_scheduling(fields)
    try:
        _write(_OOM, wire.only(fields, b"oom"))
    except OSError:
        pass  # to lower it takes a right that a rank need not have
    _write(_CORE, wire.only(fields, b"core"))
    os.chdir(os.fsdecode(wire.only(fields, b"cwd")))
    _put_on_signals(fields)


def put_on_streams(fields: Fields, descriptors: list[int]) -> None:
    """As torchrun redirected them. The stream objects stay those of the nursery, which runs unbuffered like a rank.

    Raises OSError or ValueError.
    """
    places = [int(each) for each in wire.only(fields, b"streams").split()]
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
    scheduler, priority = (int(each) for each in wire.only(fields, b"scheduler").split())
    if os.sched_getscheduler(0) != scheduler or os.sched_getparam(0).sched_priority != priority:
        os.sched_setscheduler(0, scheduler, os.sched_param(priority))
    numa.set_policy(os.fsdecode(wire.only(fields, b"memory policy")))


def _put_on_signals(fields: Fields) -> None:
    for each in wire.only(fields, b"ignored").split():
        signal.signal(int(each), signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [int(each) for each in wire.only(fields, b"blocked").split()])


def _limits() -> list[int]:
    return sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def _ignored() -> set[int]:
    every = signal.valid_signals() - _PYTHONS_OWN
    return {each for each in every if signal.getsignal(each) == signal.SIG_IGN}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _read(path: str) -> bytes:
    """Empty where the kernel has no such file."""
    try:
        with open(path, "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def _write(path: str, value: bytes) -> None:
    if value and value != _read(path):
        with open(path, "wb") as file:
            file.write(b"0x" + value if path == _CORE else value)


def _numbers(values: list[int]) -> bytes:
    return b" ".join(b"%d" % each for each in values)
