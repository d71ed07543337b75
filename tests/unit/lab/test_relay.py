"""A wire that is cut swallows and closes nothing; healed, it resets what was there before."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ryzen_lab.relay import Relay

SILENT_S = 0.2
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def with_relay(test: Callable[[Relay, Callable[[], Awaitable[Streams]]], Awaitable[None]]) -> None:
    """Run `test` with a relay in front of a server that echoes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        relay = Relay(lambda: f"{host}:{port}")
        await relay.start()
        relay_host, _, relay_port = relay.address.rpartition(":")
        try:
            async with asyncio.timeout(30):
                await test(relay, lambda: asyncio.open_connection(relay_host, int(relay_port)))
        finally:
            relay.stop()
            server.close()

    asyncio.run(work())


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(100), SILENT_S)
    except TimeoutError:
        return True
    return False


def test_it_carries_both_ways_until_it_is_cut_and_then_nothing_and_closes_nothing() -> None:
    async def test(relay: Relay, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        relay.cut()
        writer.write(b"two")
        assert await is_silent(reader)
        newer, _ = await connect()
        assert await is_silent(newer)

    with_relay(test)


def test_after_a_cut_old_connections_are_reset_and_new_ones_work() -> None:
    async def test(relay: Relay, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        relay.cut()
        meanwhile, _ = await connect()
        await asyncio.sleep(0.05)
        relay.heal()
        for old in (reader, meanwhile):
            with pytest.raises(ConnectionResetError):
                await old.read(100)
        newer, again = await connect()
        again.write(b"two")
        assert await newer.readexactly(3) == b"two"

    with_relay(test)


def test_a_server_that_is_down_closes_the_connection() -> None:
    async def work() -> None:
        relay = Relay(lambda: "127.0.0.1:1")
        await relay.start()
        host, _, port = relay.address.rpartition(":")
        reader, _ = await asyncio.open_connection(host, int(port))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(100), 30)
        relay.stop()

    asyncio.run(work())
