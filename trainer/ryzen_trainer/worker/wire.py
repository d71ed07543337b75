"""Messages between stub and nursery: pairs of a name and a value, both bytes, with their lengths in front.

The first pair's name says what the message is. Names may repeat: the environment is many pairs named b"environment".
Descriptors travel with the first byte (SCM_RIGHTS).

    stub -> nursery    rank       and all of surroundings.py, with the descriptors of stdin, stdout, stderr
                       found      no rank is wanted, only that there is a nursery that would fork one
    nursery -> stub    cold       why; the stub starts a fresh interpreter
                       again      this nursery takes no more: ask for a fresh one
                       note       a line for the user, before any of the others
                       founded    it would
    rank -> stub       started    its pid
    nursery -> stub    ended      its wait status

    parked -> nursery  parked     its device; or unfit, and why (standby.py)
    nursery -> parked  rank       the stub's message, its connection and its descriptors

The stub has `_socket`'s sockets (stub.py), the nursery `socket`'s, which are of a class derived from those.
"""

from __future__ import annotations

import _socket
import os
import sys

from ryzen_trainer.worker.errors import WireError

Fields = list[tuple[bytes, bytes]]

RANK, FOUND = b"rank", b"found"

BYTES_MAX = 16 << 20
"""Of a message. The kernel allows 6 MiB of arguments and environment at most (execve(2))."""

_LENGTH_BYTES = 4
_DESCRIPTOR_BYTES = 4
"""A C int, in a control message (cmsg(3))."""


def pack(fields: Fields) -> bytes:
    """The whole message, its length in front. Raises WireError where it is too long."""
    body = b"".join(_length(each) + each for pair in fields for each in pair)
    if len(body) > BYTES_MAX:
        raise WireError(f"a message of {len(body)} bytes is longer than {BYTES_MAX}")
    return _length(body) + body


def unpack(body: bytes) -> Fields:
    """Raises WireError."""
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        end = at + _LENGTH_BYTES
        if end > len(body):
            raise WireError("a length is cut short")
        at, end = end, end + int.from_bytes(body[at:end], "little")
        if end > len(body):
            raise WireError("a field is cut short")
        parts.append(body[at:end])
        at = end
    if len(parts) % 2 or not parts:
        raise WireError(f"{len(parts)} fields are no pairs")
    return list(zip(parts[::2], parts[1::2], strict=True))


def send(channel: _socket.socket, fields: Fields, descriptors: list[int] | None = None) -> None:
    """Raises OSError where nobody is there to read it."""
    message = pack(fields)
    sent = 0
    if descriptors:
        packed = b"".join(each.to_bytes(_DESCRIPTOR_BYTES, sys.byteorder) for each in descriptors)
        sent = channel.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
    if sent < len(message):  # to send nothing to a peer that has answered and gone by now is an error, too
        channel.sendall(message[sent:])


def try_send(channel: _socket.socket, fields: Fields) -> None:
    """Where nobody is there to read it, nobody needs to know."""
    try:
        send(channel, fields)
    except OSError:
        pass


def receive(channel: _socket.socket, descriptors_max: int = 0) -> tuple[Fields, list[int]]:
    """One message. `([], [])` where the connection ends; raises WireError for a broken one, TimeoutError, OSError."""
    head, descriptors = b"", list[int]()
    room = _socket.CMSG_LEN(descriptors_max * _DESCRIPTOR_BYTES)
    try:
        while len(head) < _LENGTH_BYTES:
            part, controls, _flags, _address = channel.recvmsg(_LENGTH_BYTES - len(head), room)
            for level, kind, packed in controls:
                if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                    descriptors += _descriptors(packed)
            if not part:
                return [], []
            head += part
        return unpack(_exactly(channel, int.from_bytes(head, "little"))), descriptors
    except BaseException:
        for each in descriptors:
            try:
                os.close(each)
            except OSError:
                pass
        raise


def _descriptors(packed: bytes) -> list[int]:
    ends = range(_DESCRIPTOR_BYTES, len(packed) + 1, _DESCRIPTOR_BYTES)
    return [int.from_bytes(packed[end - _DESCRIPTOR_BYTES : end], sys.byteorder) for end in ends]


def _length(part: bytes) -> bytes:
    return len(part).to_bytes(_LENGTH_BYTES, "little")


def _exactly(channel: _socket.socket, size: int) -> bytes:
    if size > BYTES_MAX:
        raise WireError(f"a message of {size} bytes is longer than {BYTES_MAX}")
    parts = []
    while size:
        part = channel.recv(min(size, 1 << 20))
        if not part:
            raise WireError("a message is cut short")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def only(fields: Fields, name: bytes) -> bytes:
    """The value of a name that is there once. Raises WireError."""
    found = every(fields, name)
    if len(found) != 1:
        raise WireError(f"{name.decode()} is there {len(found)} times instead of once")
    return found[0]


def every(fields: Fields, name: bytes) -> list[bytes]:
    """The values of a name, in their order."""
    return [value for each, value in fields if each == name]
