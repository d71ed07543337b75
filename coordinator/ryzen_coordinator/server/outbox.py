"""Two ways to hand something to a stream: a level (only the newest counts) and a subscription (every one counts)."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from ryzen_protos.v1 import operator_pb2 as pb

Item = TypeVar("Item")

_BACKLOG = 1000


class Latest(Generic[Item]):
    """Holds the newest item until it is taken; a newer one replaces it. For one reader."""

    def __init__(self) -> None:
        self._item: Item | None = None
        self._there = asyncio.Event()

    def put(self, item: Item) -> None:
        self._item = item
        self._there.set()

    def put_again(self) -> None:
        """The newest item once more, if there has been one."""
        if self._item is not None:
            self._there.set()

    async def take(self) -> Item:
        """Wait for an item that has not been taken yet."""
        await self._there.wait()
        self._there.clear()
        assert self._item is not None  # noqa: S101 - put() set it before the event
        return self._item


class Subscribers:
    """Everybody who watches incidents. One that does not read is dropped from, oldest first."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[pb.Incident]] = set()

    def open(self) -> asyncio.Queue[pb.Incident]:
        queue: asyncio.Queue[pb.Incident] = asyncio.Queue(_BACKLOG)
        self._queues.add(queue)
        return queue

    def close(self, queue: asyncio.Queue[pb.Incident]) -> None:
        self._queues.discard(queue)

    def publish(self, incident: pb.Incident) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(incident)
