"""A process's NUMA policy (set_mempolicy(2)): `numactl`, by hand or as torchrun's --numa-binding, sets it and execs.

The kernel shows it as the second word of /proc/self/numa_maps, whose first mapping has no policy of its own:

    5577bae63000 bind:0-1,3 file=/usr/bin/python3.11 mapped=1 N0=1 kernelpagesize_kB=4

so that the stub needs no ctypes, which would double the time it takes. Python has no call to set it.
"""

from __future__ import annotations

import os

DEFAULT = "default"
_MODES = {DEFAULT: 0, "prefer": 1, "bind": 2, "interleave": 3, "local": 4}
"""linux/mempolicy.h"""

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_NODES_MAX = 1024
_WORD_BITS = 64


def policy() -> str:
    """MODE or MODE:NODES of this process; "default" on a kernel without NUMA."""
    try:
        with open("/proc/self/numa_maps") as file:
            words = file.readline().split()
    except OSError:
        return DEFAULT
    return words[1] if len(words) > 1 else DEFAULT


def set_policy(wanted: str) -> None:
    """Make it this process's. Raises ValueError for one that is not known here, OSError where it is not allowed."""
    if wanted == policy():
        return
    import ctypes

    mode, mask = parse(wanted)
    number = _SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        raise ValueError(f"NUMA policy {wanted} cannot be set on {os.uname().machine}")
    words = (ctypes.c_uint64 * (_NODES_MAX // _WORD_BITS))()
    for at in range(len(words)):
        words[at] = mask >> (at * _WORD_BITS) & (1 << _WORD_BITS) - 1
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, bits = (words, _NODES_MAX) if mask else (None, 0)
    if libc.syscall(number, mode, pointer, ctypes.c_ulong(bits)):
        error = ctypes.get_errno()
        raise OSError(error, f"NUMA policy {wanted}: {os.strerror(error)}")


def parse(text: str) -> tuple[int, int]:
    """`bind:0-1,3` as its mode's number and a mask of nodes. Raises ValueError for anything else."""
    name, _, nodes = text.partition(":")
    mask = 0
    try:
        for part in nodes.split(",") if nodes else ():
            first, dash, last = part.partition("-")
            low, high = (min(int(each), _NODES_MAX) for each in (first, last if dash else first))
            mask |= (1 << high + 1) - (1 << low)
        mode = _MODES[name]
    except (KeyError, ValueError):
        mask = -1
    if not 0 <= mask < 1 << _NODES_MAX:
        raise ValueError(f"NUMA policy {text!r} is not known")
    return mode, mask
