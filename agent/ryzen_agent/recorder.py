"""PyTorch's flight recorder of a rank, read through the worker server that `attach()` opens.

    POST /handler/fr_trace_json    entries of the ring: answered by C++ threads, also while the main thread hangs

Who is in which process group stands in a file beside the rank's page (ryzen_trainer/evidence.py).

An entry of the trace looks like

    {"collective_seq_id": 10, "input_dtypes": ["Float"], "input_sizes": [[33088]], "is_p2p": false, "op_id": 10,
     "process_group": ["0", "default_pg"], "profiling_name": "gloo:all_reduce", "retired": true, "state": "scheduled"}

On gloo an operation is done when it is `retired`; on NCCL its state may be "completed" before that. The rank is
hostile input: the answer is bounded in time and size, and what does not look like an entry is passed over.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 0.5
ANSWER_BYTES = 8 << 20
"""The 512 entries that the handler asks for are 0.3 MB; a user may have asked for ten thousand."""

PENDING_MAX = 16
GROUPS_MAX, GROUP_RANKS_MAX = 256, 4096
GROUPS_BYTES = 8 << 20
NAME_CHARS, SHAPE_CHARS = 64, 120
PARSE_HERE_BYTES = 512 << 10
"""A longer answer is parsed in another thread: this one looks at pages up to eight times a second."""

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation. `shape`: type and sizes of the input, "Float[33088]"."""

    group: str
    sequence: int
    operation: str
    shape: str
    done: bool


async def read_trace(path: Path, pid: int, uid: int) -> list[Entry] | None:
    """What the recorder of process `pid` holds, oldest first; None where it does not answer (in time)."""
    entries = await _trace(path, "fr_trace_json", pid, uid)
    if entries == []:  # NCCL keeps a recorder of its own, as far as the torch that serves it has a word for that
        entries = await _trace(path, "dump_nccl_trace_json", pid, uid) or []
    return entries


async def _trace(path: Path, handler: str, pid: int, uid: int) -> list[Entry] | None:
    answer = await _ask(path, handler, pid, uid)
    if answer is None:
        return None
    return parse_trace(answer) if len(answer) < PARSE_HERE_BYTES else await asyncio.to_thread(parse_trace, answer)


def read_groups(path: Path, uid: int) -> dict[str, tuple[int, ...]]:
    """Process groups of the rank that keeps this file; empty where there is none, or one of another user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid or status.st_size > GROUPS_BYTES:
            return {}
        return parse_groups(os.pread(descriptor, GROUPS_BYTES, 0)) or {}
    except OSError:
        return {}
    finally:
        os.close(descriptor)


def parse_trace(text: bytes) -> list[Entry] | None:
    """None where it is no trace."""
    try:
        listed = json.loads(text)["entries"]
        entries = [_entry(each) for each in listed if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [each for each in entries if each is not None]


def parse_groups(text: bytes) -> dict[str, tuple[int, ...]] | None:
    """None where it is no table of groups."""
    try:
        listed = json.loads(text).items()
        return {
            _line(name, NAME_CHARS): tuple(rank for rank in ranks[:GROUP_RANKS_MAX] if _is_count(rank))
            for name, ranks in list(listed)[:GROUPS_MAX]
            if isinstance(ranks, list)
        }
    except (ValueError, AttributeError, RecursionError):
        return None


def telling(entries: list[Entry]) -> list[Entry]:
    """The oldest that are not done, and the newest of each group, in the order of the ring."""
    pending = [each for each in entries if not each.done][:PENDING_MAX]
    newest = list({each.group: each for each in entries}.values())[:PENDING_MAX]
    return [each for each in entries if any(each is told for told in (*pending, *newest))]


def _entry(each: dict[str, Any]) -> Entry | None:
    try:
        if each.get("is_p2p"):  # not done by every member, numbered by themselves: they say nothing of the others
            return None
        name = _line(each["process_group"][0], NAME_CHARS)
        sequence = each["collective_seq_id"]
        operation = _line(str(each["profiling_name"]).rpartition(":")[2], NAME_CHARS)
        types, sizes = each.get("input_dtypes", []), each.get("input_sizes", [])
        shape = _line(
            " ".join(f"{kind}{size}".replace(" ", "") for kind, size in zip(types, sizes, strict=False)), SHAPE_CHARS
        )
        done = bool(each.get("retired")) or each.get("state") == "completed"
    except (KeyError, IndexError, TypeError):
        return None
    if not _is_count(sequence):
        return None
    return Entry(name, sequence, operation, shape, done)


def _line(value: object, length: int) -> str:
    """One printable line: what a rank says may end up in a terminal."""
    return "".join(each if each.isprintable() else "?" for each in str(value)[:length])


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


async def _ask(path: Path, handler: str, pid: int, uid: int) -> bytes | None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await _exchange(path, handler, pid, uid)
    except (OSError, TimeoutError, ValueError):
        return None


async def _exchange(path: Path, handler: str, pid: int, uid: int) -> bytes | None:
    """One HTTP request over a Unix socket that must be `pid`'s own."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
        await loop.sock_connect(connection, str(path))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[:2] != (pid, uid):
            return None  # of a former rank, or not of this user at all
        request = f"POST /handler/{handler} HTTP/1.1\r\nHost: rank\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        answer = bytearray()
        while block := await loop.sock_recv(connection, 1 << 16):
            answer += block
            if len(answer) > ANSWER_BYTES:
                return None
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] == [b"200"] else None
