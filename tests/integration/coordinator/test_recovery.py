"""A world is formed, struck, and formed again, over real gRPC with a real journal."""

from __future__ import annotations

from typing import Any

from .fake_node import FakeNode, until


def last_incident(app: Any) -> Any:
    return app.driver.incident(max(app.driver.core.cluster.incidents))


def test_two_nodes_form_a_world_in_the_order_of_their_hints(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            b = FakeNode(app.address, "b", hint=0).start()
            a = FakeNode(app.address, "a", hint=1).start()
            await until(lambda: a.generation == b.generation == 1, "both run generation 1")
            assert a.wanted is not None
            assert a.wanted.world.size == 2
            assert (b.wanted.world.group_rank, a.wanted.world.group_rank) == (0, 1)  # type: ignore[union-attr]
            await a.cut()
            await b.cut()

    run(test())


def test_a_killed_rank_is_named_and_the_world_formed_again(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(2)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            nodes[1].fail(0, -9)
            nodes[0].fail(0, 1, ("RuntimeError", "Connection closed by peer [127.0.0.1]:1"))
            await until(lambda: nodes[0].generation == nodes[1].generation == 2, "generation 2")
            await until(lambda: last_incident(app).state == "closed", "the incident is closed")
            incident = last_incident(app)
            assert (incident.verdict.fault_class, list(incident.verdict.ranks)) == ("exit", [2])
            assert list(incident.verdict.nodes) == ["node-1"]
            assert incident.verdict.action == "restart"
            assert set(incident.stages_s) == {
                "detect", "blame", "stop", "rendezvous", "start", "restore", "first_step"
            }  # fmt: skip
            for node in nodes:
                await node.cut()

    run(test())


def test_a_stopped_rank_is_a_hang_and_is_named(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(gap_unknown_s=0.5) as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(2)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            nodes[1].freeze(1)
            nodes[0].stepping = False
            await until(lambda: nodes[0].generation == nodes[1].generation == 2, "generation 2")
            await until(lambda: last_incident(app).state == "closed", "the incident is closed")
            verdict = last_incident(app).verdict
            assert (verdict.fault_class, list(verdict.ranks), list(verdict.nodes)) == ("hang", [3], ["node-1"])
            for node in nodes:
                await node.cut()

    run(test())


def test_a_lost_node_is_replaced_by_the_spare_in_its_group_rank(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(lease_s=0.6) as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(3)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            await nodes[0].cut()
            nodes[1].fail(0, 1, ("DistBackendError", "NCCL error: ncclRemoteError"))
            await until(lambda: nodes[1].generation == nodes[2].generation == 2, "generation 2")
            places = [(node.wanted.world.group_rank, node.wanted.world.size) for node in (nodes[2], nodes[1])]  # type: ignore[union-attr]
            assert places == [(0, 2), (1, 2)]
            await until(lambda: last_incident(app).state == "closed", "the incident is closed")
            verdict = last_incident(app).verdict
            assert (verdict.fault_class, list(verdict.nodes), verdict.action) == ("node_lost", ["node-0"], "evict")
            for node in nodes[1:]:
                await node.cut()

    run(test())


def test_at_the_end_of_a_job_spares_are_dismissed_with_zero(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            nodes = [FakeNode(app.address, f"node-{i}", hint=i).start() for i in range(3)]
            await until(lambda: nodes[0].generation == nodes[1].generation == 1, "generation 1")
            nodes[0].finish()
            nodes[1].finish()
            await until(lambda: all(node.dismissed == 0 for node in nodes), "all are dismissed")
            for node in nodes:
                await node.cut()

    run(test())
