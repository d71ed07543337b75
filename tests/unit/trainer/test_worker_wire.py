"""Messages between stub and nursery."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ryzen_trainer.worker import wire
from ryzen_trainer.worker.errors import WireError

FIELDS = [(b"rank", b""), (b"environment", b"A=1\n\xff"), (b"environment", b"B="), (b"cwd", b"/")]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_what_is_sent_arrives_with_its_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = os.pipe()
    wire.send(pair[0], FIELDS, [writing])
    found, (descriptor,) = wire.receive(pair[1], descriptors_max=3)
    assert found == FIELDS
    os.write(descriptor, b"x")
    assert os.read(reading, 1) == b"x"
    for each in (reading, writing, descriptor):
        os.close(each)


def test_the_end_of_the_connection_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert wire.receive(pair[1]) == ([], [])


def test_an_answer_that_comes_before_the_sender_is_done_is_not_lost() -> None:
    """The other side may have read, answered and gone when the last byte is out: nothing may be sent after it."""

    class Quick(socket.socket):
        def sendall(self, *_: Any) -> None:
            raise BrokenPipeError

    one, other = socket.socketpair()
    with Quick(fileno=one.detach()) as quick, other:
        wire.send(quick, FIELDS, [0])
        found, (descriptor,) = wire.receive(other, descriptors_max=1)
        os.close(descriptor)
        assert found == FIELDS


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<I", wire.BYTES_MAX + 1),
        struct.pack("<I", 3) + b"abc",
        struct.pack("<II", 4, 9),
        struct.pack("<I", 5) + struct.pack("<I", 1) + b"x",
        struct.pack("<I", 0),
        struct.pack("<I", 100) + b"short",
    ],
    ids=["too long", "no length", "field cut short", "no pair", "empty", "message cut short"],
)
def test_a_broken_message_is_refused(pair: tuple[socket.socket, socket.socket], body: bytes) -> None:
    pair[0].sendall(body)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(WireError):
        wire.receive(pair[1])


def test_a_name_that_must_be_there_once_is(pair: tuple[socket.socket, socket.socket]) -> None:
    assert wire.only(FIELDS, b"cwd") == b"/"
    assert wire.every(FIELDS, b"environment") == [b"A=1\n\xff", b"B="]
    for name in (b"environment", b"umask"):
        with pytest.raises(WireError):
            wire.only(FIELDS, name)
