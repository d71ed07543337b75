"""Who may speak, in which version, and what is kept of what they say."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest

import ryzen_protos
from ryzen_coordinator.server.auth import make_tokens
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import operator_pb2, operator_pb2_grpc

from .fake_node import FakeNode, until


async def refused(node: FakeNode) -> tuple[grpc.StatusCode, str]:
    """How the coordinator ends the stream."""
    node.start()
    await until(lambda: node.error is not None, "the stream is refused")
    assert node.error is not None
    return node.error.code(), node.error.details()


def test_another_protocol_is_refused_with_both_versions_and_which_side_to_upgrade(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            code, line = await refused(FakeNode(app.address, "a", protocol=ryzen_protos.PROTOCOL + 1))
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert f"speaks protocol {ryzen_protos.PROTOCOL + 1}" in line
            assert line.endswith("upgrade the coordinator")
            assert "\n" not in line
            _, line = await refused(FakeNode(app.address, "a", protocol=ryzen_protos.PROTOCOL - 1))
            assert line.endswith("upgrade the agent")

    run(test())


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_node_without_the_right_token_is_refused_in_one_line(
    run: Any, coordinator: Any, tmp_path: Path, token: str | None
) -> None:
    async def test() -> None:
        make_tokens(tmp_path / "t")
        async with coordinator(token_file=tmp_path / "t") as app:
            code, line = await refused(FakeNode(app.address, "a", token=token))
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "token" in line
            assert "\n" not in line

    run(test())


def test_rights_are_separate(run: Any, coordinator: Any, tmp_path: Path) -> None:
    async def test() -> None:
        tokens = make_tokens(tmp_path / "t")
        async with coordinator(token_file=tmp_path / "t") as app:
            code, _ = await refused(FakeNode(app.address, "a", token=tokens.operator))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            node = FakeNode(app.address, "a", token=tokens.node).start()
            await until(lambda: node.desired, "the node token attaches")
            async with grpc.aio.insecure_channel(app.address) as channel:
                stub = operator_pb2_grpc.OperatorServiceStub(channel)
                reader = [("authorization", f"Bearer {tokens.read}")]
                assert (await stub.GetStatus(operator_pb2.StatusRequest(), metadata=reader)).nodes[0].node == "a"
                with pytest.raises(grpc.aio.AioRpcError, match="the call needs the operator token"):
                    await stub.Evict(operator_pb2.EvictRequest(node="a"), metadata=reader)
            await node.cut()

    run(test())


def test_two_machines_of_one_name_do_not_take_turns(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            first = FakeNode(app.address, "a", boot_id="one").start()
            await until(lambda: first.desired, "the first is attached")
            code, line = await refused(FakeNode(app.address, "a", boot_id="two"))
            assert code is grpc.StatusCode.ALREADY_EXISTS
            assert "another --node name" in line
            await first.cut()

    run(test())


def test_a_restarted_agent_of_the_same_machine_takes_over_at_once(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            first = FakeNode(app.address, "a").start()
            await until(lambda: first.desired, "the first is attached")
            second = FakeNode(app.address, "a").start()
            await until(lambda: second.desired, "the second is attached")
            await first.cut()
            await until(lambda: app.driver.core.cluster.nodes["a"].connected, "the node is still connected")
            await second.cut()

    run(test())


@pytest.mark.parametrize("name", ["", "a b", "../x"])
def test_a_node_name_that_is_none_is_refused(run: Any, coordinator: Any, name: str) -> None:
    async def test() -> None:
        async with coordinator() as app:
            code, line = await refused(FakeNode(app.address, name))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "node name" in line

    run(test())


def test_events_are_on_disk_before_they_are_acknowledged_and_kept_once(
    run: Any, coordinator: Any, tmp_path: Path
) -> None:
    async def test() -> None:
        async with coordinator() as app:
            node = FakeNode(app.address, "a")
            node.events = [pb.NodeEvent(id=i, kind="rank_exit", run_id="job", fields={"code": "-9"}) for i in (1, 2)]
            node.start()
            await until(lambda: node.desired and node.desired.acked_event_id == 2, "both are acknowledged")
            await node.cut()
        rows = sqlite3.connect(tmp_path / "journal.sqlite").execute("select id, kind from node_events").fetchall()
        assert rows == [(1, "rank_exit"), (2, "rank_exit")]

    run(test())


def test_ipv6_works(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator(listen="[::1]:0") as app:
            assert app.address.startswith("[::1]:")
            node = FakeNode(app.address, "a").start()
            await until(lambda: node.desired, "the node is attached")
            await node.cut()

    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    run(test())


def test_versions_of_desired_states_grow(run: Any, coordinator: Any) -> None:
    async def test() -> None:
        async with coordinator() as app:
            node = FakeNode(app.address, "a", minimum=1, maximum=1, ranks=1)
            versions = []
            obey = node._obey

            def record(state: pb.DesiredState) -> None:
                versions.append(state.version)
                obey(state)

            node._obey = record  # type: ignore[method-assign]
            node.start()
            await until(lambda: node.generation == 1, "generation 1")
            node.fail(0, -9)
            await until(lambda: node.generation == 2, "generation 2")
            assert versions == sorted(set(versions))
            await node.cut()

    run(test())
