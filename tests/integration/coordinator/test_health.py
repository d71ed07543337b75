"""What a node's kernel log and driver say, through a real coordinator: a process, gRPC, a journal on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ryzen_protos.v1 import node_pb2 as pb

from .fake_node import FakeNode, until
from .test_commands import ran, served


def xid(number: int, code: int, action: str, **more: Any) -> pb.NodeEvent:
    event = pb.NodeEvent(id=number, kind="health", unix_ns=time.time_ns(), run_id="job")
    event.health.CopyFrom(pb.HealthEvent(kind="xid", code=code, device="GPU-b", action=action, message="m", **more))
    return event


async def asked(address: str, *command: str) -> Any:
    _, out, err = await ran(*command, "--json", "--coordinator", address)
    assert out, err
    return json.loads(out)


def test_a_node_with_a_dead_gpu_is_out_until_it_is_readmitted_whatever_happens_to_the_coordinator(
    run: Any, tmp_path: Path
) -> None:
    async def test() -> None:
        async with served(tmp_path) as (process, address):
            nodes = [FakeNode(address, name, minimum=1, hint=hint).start() for hint, name in enumerate("ab")]
            await until(lambda: all(node.generation == 1 for node in nodes), "the first world")
            dead = xid(41, 79, "reboot", ranks=[2])
            nodes[1].events.append(dead)
            nodes[1].say()
            await until(lambda: nodes[0].generation == 2, "a world without b")
            await until(lambda: nodes[1].desired and nodes[1].desired.acked_event_id == 41, "the acknowledgement")
            process.kill()  # what has been acknowledged is never told again, so it must be on disk by then
            for node in nodes:
                await node.cut()
        async with served(tmp_path) as (_, address):
            nodes = [FakeNode(address, name, minimum=1, hint=hint) for hint, name in enumerate("ab")]
            nodes[1].events.append(dead)
            hot = pb.HealthCondition(name="gpu.hot", device="GPU-b", severity="warning", message="95 C")
            nodes[1].conditions = pb.Conditions(all=[hot])
            for node in nodes:
                node.start()
            await until(lambda: nodes[1].desired and nodes[1].desired.node_phase == "quarantined", "b still out")
            _, told = await asked(address, "nodes")
            assert [each["name"] for each in told["conditions"]] == ["gpu.hot"]
            assert told["faults"][0].startswith("Xid 79 (b, GPU-b): m -> reboot")
            first, *_ = sorted(await asked(address, "incidents"), key=lambda incident: incident["id"])
            assert (first["verdict"]["fault_class"], first["verdict"]["action"]) == ("hardware", "evict")
            assert (first["verdict"]["nodes"], first["verdict"]["ranks"]) == (["b"], [2])
            assert any("Xid 79" in line for line in first["evidence"])
            table = (await ran("nodes", "--coordinator", address))[1]
            assert "gpu.hot" in table
            await asked(address, "readmit", "b")
            await until(lambda: nodes[1].desired and nodes[1].desired.node_phase == "probation", "b readmitted")
            for node in nodes:
                await node.cut()

    run(test())


def test_an_xid_of_the_application_restarts_in_place_and_the_literal_rule_evicts(run: Any, tmp_path: Path) -> None:
    async def answer_to_31(folder: Path, *options: str) -> str:
        async with served(folder, *options) as (_, address):
            nodes = [FakeNode(address, name, minimum=1, hint=hint).start() for hint, name in enumerate("ab")]
            await until(lambda: all(node.generation == 1 for node in nodes), "the first world")
            nodes[1].events.append(xid(7, 31, "restart_app_then_repeat", ranks=[2]))
            nodes[1].say()
            await until(lambda: nodes[0].generation == 2, "the next world")
            verdict = None
            while not verdict:
                (incident,) = await asked(address, "incidents")
                verdict = incident["verdict"]
            for node in nodes:
                await node.cut()
            return str(verdict["action"])

    async def test() -> None:
        assert await answer_to_31(tmp_path / "table") == "restart"
        assert await answer_to_31(tmp_path / "literal", "--health-evict-on", "13,31,79") == "evict"

    run(test())
