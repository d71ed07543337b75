"""Shrink, grow, evict, readmit and a restarted coordinator, over real gRPC with a real journal."""

from __future__ import annotations

from typing import Any

import grpc

from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import operator_pb2, operator_pb2_grpc

from .fake_node import FakeNode, until

LOST_PEER = ("RuntimeError", "Connection closed by peer [127.0.0.1]:1")


def world_of(app: Any) -> list[str]:
    (job,) = app.driver.core.cluster.jobs.values()
    return list(job.world.nodes) if job.world is not None else []


def test_without_a_spare_the_world_shrinks_and_takes_the_node_back(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(lease_s=0.6) as app:
            nodes = [
                FakeNode(app.address, f"node-{i}", hint=i, minimum=1, options={"grow": "now"}).start() for i in range(2)
            ]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            await nodes[1].cut()
            nodes[0].fail(0, 1, LOST_PEER)
            await until(lambda: nodes[0].generation == 2 and world_of(app) == ["node-0"], "one node goes on")
            back = FakeNode(app.address, "node-1", hint=1, minimum=1, options={"grow": "now"})
            back.job.torchrun_pid += 1
            back.start()
            await until(lambda: back.generation == nodes[0].generation == 3, "the node is taken back")
            assert world_of(app) == ["node-0", "node-1"]
            status = app.driver.core.cluster.jobs[("me", "job")]
            assert status.restarts == 1, "growing is no restart"
            for node in (nodes[0], back):
                await node.cut()

    run(test())


def test_an_evicted_node_is_replaced_and_may_come_back_when_it_is_readmitted(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app, grpc.aio.insecure_channel(app.address) as channel:
            operator = operator_pb2_grpc.OperatorServiceStub(channel)
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(3)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            reply = await operator.Evict(operator_pb2.EvictRequest(node="node-0", reason="dust"))
            assert (reply.ok, reply.message) == (True, "node-0 is evicted; job: node-2 takes its place")
            await until(lambda: nodes[1].generation == nodes[2].generation == 2, "generation 2")
            assert world_of(app) == ["node-2", "node-1"]
            await until(lambda: nodes[0].desired and nodes[0].desired.node_phase == "quarantined", "quarantined")
            again = await operator.Evict(operator_pb2.EvictRequest(node="node-0"))
            assert (again.ok, again.message) == (False, "node-0 is quarantined already")
            assert (await operator.Readmit(operator_pb2.ReadmitRequest(node="node-0"))).ok
            await until(lambda: nodes[0].desired and nodes[0].desired.node_phase == "probation", "on probation")
            for node in nodes:
                await node.cut()

    run(test())


def test_a_running_job_does_not_notice_that_the_coordinator_was_restarted(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(2)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            address = app.address
        for node in nodes:
            await node.cut()
        async with coordinator(listen=address) as app:
            for node in nodes:
                node.start()
            job = app.driver.core.cluster.jobs[("me", "job")]
            await until(lambda: all(m.seen.handler == "running" for m in job.members.values()), "both are back")
            nodes[1].fail(1, -9)
            await until(lambda: nodes[0].generation == nodes[1].generation == 2, "the next fault is recovered")
            assert job.restarts == 1
            for node in nodes:
                await node.cut()

    run(test())


def test_a_rank_killed_while_the_coordinator_is_down_is_recovered_when_it_is_back(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(2)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            address = app.address
        for node in nodes:
            await node.cut()
        nodes[0].fail(1, -9)
        async with coordinator(listen=address) as app:
            for node in nodes:
                node.start()
            await until(lambda: nodes[0].generation == nodes[1].generation == 2, "generation 2")
            await until(lambda: app.driver.core.cluster.incidents[1].verdict, "the verdict")
            assert app.driver.core.cluster.incidents[1].verdict.ranks == (1,)
            for node in nodes:
                await node.cut()

    run(test())


def test_a_failing_job_is_given_up_with_the_do_not_requeue_code(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(fruitless_generations=2) as app:
            node = FakeNode(app.address, "a", minimum=1, maximum=1, ranks=1)
            node.steps = False
            node.start()
            for generation in (1, 2):
                await until(lambda g=generation: node.generation == g, f"generation {generation}")
                node.fail(0, 1, ("ImportError", f"no module {generation}"))
            await until(lambda: node.dismissed == 93, "dismissed with 93")
            await node.cut()

    run(test())


def test_incidents_are_watched_as_they_happen(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app, grpc.aio.insecure_channel(app.address) as channel:
            watch = operator_pb2_grpc.OperatorServiceStub(channel).WatchIncidents(operator_pb2.IncidentsRequest())
            node = FakeNode(app.address, "a", minimum=1, maximum=1, ranks=2).start()
            await until(lambda: node.generation == 1, "generation 1")
            node.fail(1, -11)
            states = []
            async for incident in watch:
                states.append((incident.state, incident.verdict.fault_class))
                if incident.state == "closed":
                    break
            order = [("open", "recovering", "closed").index(state) for state, _ in states]
            assert order == sorted(order)
            assert order[0] < order[-1], "told before it is over; how early depends on the disk"
            assert states[-1] == ("closed", "exit")
            watch.cancel()
            await node.cut()

    run(test())


def test_a_job_of_another_rendezvous_backend_is_watched_and_its_stopped_rank_killed(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(gap_unknown_s=0.5) as app:
            node = watched_node(app.address)
            await until(lambda: node.desired and node.desired.jobs, "the job is known")
            node.freeze(1)
            await until(lambda: node.wanted and list(node.wanted.stop_pids) == [501], "the culprit is to be killed")
            verdict = app.driver.core.cluster.incidents[1].verdict
            assert (verdict.fault_class, verdict.ranks, verdict.action) == ("hang", (1,), "restart")
            node.fail(1, -9)
            await until(lambda: node.wanted and not node.wanted.stop_pids, "the order is carried out")
            await node.cut()

    run(test())


def watched_node(address: str) -> FakeNode:
    """A c10d torchrun: no handler, ranks known by their pages."""
    from ryzen_protos.v1 import node_pb2 as pb

    node = FakeNode(address, "a", ranks=2)
    node.job.handler = pb.ObservedJob.ABSENT
    node.job.ClearField("store")
    for rank in range(2):
        seen = pb.ObservedRank(rank=rank, local_rank=rank, pid=500 + rank, life=pb.ObservedRank.ALIVE, attached=True)
        seen.process_state = "R"
        node.job.ranks.append(seen)
    node.record = Record(step=5)
    node.job.gaps.append(pb.SectionGap(section="", longest_s=0.3))
    return node.start()
