"""OperatorService: what people and tools ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc

from ryzen_coordinator.core import operator
from ryzen_coordinator.core.events import OperatorEvict, OperatorReadmit
from ryzen_coordinator.server.accounts import Prices, cluster_ledger
from ryzen_coordinator.server.auth import Right, Tokens, require
from ryzen_coordinator.server.driver import Driver
from ryzen_coordinator.server.present import cluster_status, incident_message
from ryzen_protos.v1 import operator_pb2 as pb
from ryzen_protos.v1 import operator_pb2_grpc

_WATCH_EVERY_S = 0.25
_INCIDENTS_LISTED = 100


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Reads the core's state; changes it by events alone."""

    def __init__(self, driver: Driver, tokens: Tokens | None, prices: Prices) -> None:
        self._driver = driver
        self._tokens = tokens
        self._prices = prices

    async def GetStatus(  # noqa: N802
        self, request: pb.StatusRequest, context: grpc.aio.ServicerContext
    ) -> pb.ClusterStatus:
        del request
        await require(self._tokens, context, Right.READ)
        return self._status()

    async def Watch(  # noqa: N802
        self, request: pb.StatusRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ClusterStatus]:
        del request
        await require(self._tokens, context, Right.READ)
        seen = -1
        while True:
            if self._driver.changes != seen:
                seen = self._driver.changes
                yield self._status()
            await asyncio.sleep(_WATCH_EVERY_S)

    async def ListIncidents(  # noqa: N802
        self, request: pb.IncidentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.IncidentList:
        await require(self._tokens, context, Right.READ)
        every = sorted(self._driver.core.cluster.incidents.values(), key=lambda incident: -incident.id)
        if request.HasField("id"):
            every = [incident for incident in every if incident.id == request.id]
            if not every:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"no incident {request.id}")
        chosen = [incident for incident in every if request.run_id in {"", incident.run_id}]
        return pb.IncidentList(incidents=[incident_message(i) for i in chosen[: request.limit or _INCIDENTS_LISTED]])

    async def WatchIncidents(  # noqa: N802
        self, request: pb.IncidentsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Incident]:
        await require(self._tokens, context, Right.READ)
        queue = self._driver.incidents.open()
        try:
            for incident in list(self._driver.core.cluster.incidents.values()):
                if incident.state != "closed" and request.run_id in {"", incident.run_id}:
                    yield incident_message(incident)
            while True:
                message = await queue.get()
                if request.run_id in {"", message.run_id}:
                    yield message
        finally:
            self._driver.incidents.close(queue)

    async def GetLedger(self, request: pb.LedgerRequest, context: grpc.aio.ServicerContext) -> pb.Ledger:  # noqa: N802
        await require(self._tokens, context, Right.READ)
        cluster = self._driver.core.cluster
        found = cluster_ledger(cluster, self._prices, time.monotonic(), request.run_id)
        if request.run_id and not found.jobs:
            known = ", ".join(sorted({job.run_id for job in cluster.jobs.values()})) or "none"
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no job {request.run_id!r} (known: {known})")
        return found

    async def Evict(self, request: pb.EvictRequest, context: grpc.aio.ServicerContext) -> pb.OperatorReply:  # noqa: N802
        await require(self._tokens, context, Right.OPERATOR)
        event = OperatorEvict(request.node, request.reason)
        cluster = self._driver.core.cluster
        if (why := operator.check(cluster, event)) is not None:
            return pb.OperatorReply(ok=False, message=why)
        then = "; ".join(operator.consequences(cluster, request.node))
        self._driver.submit(event)
        return pb.OperatorReply(ok=True, message=f"{request.node} is evicted{'; ' + then if then else ''}")

    async def Readmit(self, request: pb.ReadmitRequest, context: grpc.aio.ServicerContext) -> pb.OperatorReply:  # noqa: N802
        await require(self._tokens, context, Right.OPERATOR)
        event = OperatorReadmit(request.node)
        if (why := operator.check(self._driver.core.cluster, event)) is not None:
            return pb.OperatorReply(ok=False, message=why)
        self._driver.submit(event)
        return pb.OperatorReply(ok=True, message=f"{request.node} is readmitted, on probation until a step with it")

    def _status(self) -> pb.ClusterStatus:
        return cluster_status(self._driver.core.cluster, time.monotonic() - self._driver.started_s)
