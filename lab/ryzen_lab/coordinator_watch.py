"""The lab's only look at the product: the coordinator's public stream of incidents, stamped on arrival."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import grpc

from ryzen_protos.v1 import operator_pb2, operator_pb2_grpc

_RETRY_S = 0.05


async def watch_incidents(address: Callable[[], str], arrived: Callable[[operator_pb2.Incident], None]) -> None:
    """Follow the stream for ever, over restarts of the coordinator; cancel to end."""
    while True:
        async with grpc.aio.insecure_channel(address()) as channel:
            stub = operator_pb2_grpc.OperatorServiceStub(channel)
            try:
                async for incident in stub.WatchIncidents(operator_pb2.IncidentsRequest()):
                    arrived(incident)
            except grpc.aio.AioRpcError:
                pass  # it is down, on purpose perhaps: the next attempt tells
        await asyncio.sleep(_RETRY_S)


async def status(address: str) -> operator_pb2.ClusterStatus | None:
    """The status now; None where the coordinator does not answer."""
    answer: operator_pb2.ClusterStatus | None = None
    async with grpc.aio.insecure_channel(address) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await stub.GetStatus(operator_pb2.StatusRequest(), timeout=2.0)
    return answer
