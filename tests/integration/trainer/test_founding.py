"""A torchrun that waits for a world has its nursery already, and has it for as long as it waits."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzen_protos.v1 import local_pb2, node_pb2
from ryzen_trainer.rendezvous import handler as handlers
from ryzen_trainer.rendezvous.arguments import Arguments
from ryzen_trainer.worker.place import RANKS_OWN

from .launching import Launcher, is_alive, processes_with, wait_until
from .played import Node, Phase, Place, rank_report, two_nodes, world


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    yield from two_nodes(tmp_path)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path / "job")
    launcher.script("sleep.py", "import os, time\nprint(os.getpid(), os.getppid())\ntime.sleep(60)\n")
    launcher.script("said.py", "import os\nprint(os.getpid(), os.getppid())\n")
    yield launcher
    launcher.close()


def park(node: Node, **started: Any) -> None:
    node.start(nodes="1:2", **started)
    node.agent.wait(lambda update: update.phase == Phase.JOINING)
    node.agent.orders.put(local_pb2.HandlerOrder(place=Place.PARKED, reason="spare: the world is full"))


def nursery_of(node: Node, but: int = 0) -> int:
    """Its pid, once it has imported; `but`: another than that."""

    def found() -> int:
        for each in (node.run_dir / "jobs" / "job").glob("nursery-*.json"):
            pid: int = json.loads(each.read_text())["pid"]
            if pid != but and is_alive(pid):
                return pid
        return 0

    pid: int = wait_until(found, "a nursery")
    return pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def left(node: Node) -> list[str]:
    files = [str(each) for each in (node.run_dir / "jobs").rglob("*") if each.name.startswith(("nursery-", "worker-"))]
    return processes_with(f"RYZEN_RUN_DIR={node.run_dir}") + files


# ------------------------------------------------------------- under a real torchrun


@pytest.mark.parametrize("is_parked", [True, False])
def test_the_ranks_come_from_the_nursery_that_was_founded_while_torchrun_waited(
    nodes: list[Node], tmp_path: Path, is_parked: bool
) -> None:
    """Of a spare it has imported by then; at a job's first start the world may come before it has."""
    node = nodes[0]
    if is_parked:
        park(node, forked=True)
        nursery = nursery_of(node)
        environment = dict(each.partition("=")[::2] for each in environ_of(nursery))
        assert not environment.keys() & set(RANKS_OWN)
        assert environment["TORCHELASTIC_RUN_ID"] == "job"
    else:
        node.start(nodes="1", forked=True)
    world(1, [node])
    rank = int(rank_report(tmp_path, 1, 0)[0])
    assert parent_of(rank) == nursery_of(node)
    if is_parked:
        assert parent_of(rank) == nursery
    assert len(list((node.run_dir / "jobs" / "job").glob("nursery-*.lock"))) == 1
    (tmp_path / "finish").touch()
    code, errors = node.end()
    assert code == 0
    assert errors.count("has imported torch") == 1
    wait_until(lambda: not left(node), "nothing left")


@pytest.mark.parametrize("moment", ["parked", "importing"])
def test_the_nursery_ends_with_a_torchrun_that_never_had_a_world(nodes: list[Node], moment: str) -> None:
    node = nodes[0]
    park(node, forked=True)
    if moment == "parked":
        nursery_of(node)
    else:
        wait_until(lambda: list((node.run_dir / "jobs").rglob("nursery-*.sock")), "it is founded")
    assert node.torchrun is not None
    node.torchrun.kill()
    node.torchrun.communicate()
    wait_until(lambda: not left(node), "nothing left")


def test_a_node_that_is_parked_again_gets_another_nursery_where_its_own_has_died(
    nodes: list[Node], tmp_path: Path
) -> None:
    node = nodes[0]
    node.start(nodes="1:2", forked=True)
    world(1, [node])
    rank_report(tmp_path, 1, 0)
    first = nursery_of(node)
    node.agent.orders.put(local_pb2.HandlerOrder(generation=2, go=True, place=Place.PARKED, reason="evicted"))
    node.agent.wait(lambda update: update.phase == Phase.JOINING and update.generation == 1)
    os.kill(first, signal.SIGKILL)
    nursery_of(node, but=first)


def environ_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


# ------------------------------------------------------------- what it does


def test_to_found_is_silent_and_leaves_what_serves_alone(launcher: Launcher) -> None:
    for _ in range(2):
        result = launcher.run("warm", ["--found", "said.py"])
        assert (result.code, result.out, result.err) == (0, "", "")
    (nursery,) = launcher.nurseries
    rank = launcher.run("warm", ["said.py"])
    assert int(rank.out.split()[1]) == nursery
    assert f"the nursery (pid {nursery}) has imported torch" in rank.err, "the first rank says so"


def test_one_that_has_died_is_founded_again(launcher: Launcher) -> None:
    launcher.run("warm", ["--found", "said.py"])
    (first,) = launcher.nurseries
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first), "it is dead")
    launcher.run("warm", ["--found", "said.py"])
    (second,) = launcher.nurseries
    assert is_alive(second)
    assert second != first


def test_one_whose_modules_have_changed_is_replaced_before_a_rank_needs_it(launcher: Launcher) -> None:
    launcher.script("own.py", "VALUE = 1\n")
    launcher.script("value.py", "import own, os\nprint(own.VALUE, os.getppid())\n")
    preloads = {"env": {"RYZEN_PRELOAD": "own"}}
    launcher.run("warm", ["--found", "value.py"], **preloads)
    (first,) = launcher.nurseries
    launcher.script("own.py", "VALUE = 22\n")
    launcher.run("warm", ["--found", "value.py"], **preloads)
    wait_until(lambda: not is_alive(first), "the first has ended")
    (second,) = launcher.nurseries
    assert launcher.run("warm", ["value.py"], **preloads).out == f"22 {second}\n"


@pytest.mark.parametrize("why", ["RYZEN_COLD", "RYZEN_WARM", "RYZEN_PRELOAD"])
def test_what_forbids_a_fork_is_said_by_the_rank_alone(launcher: Launcher, why: str) -> None:
    forbids = {"env": {why: "not.there"}}
    result = launcher.run("warm", ["--found", "said.py"], **forbids)
    assert (result.code, result.out, result.err) == (0, "", "")
    serves_nobody = [each for each in launcher.left() if "nursery" in each]
    assert (serves_nobody != []) == (why == "RYZEN_PRELOAD"), "one that could not import is not founded again and again"
    rank = launcher.run("warm", ["said.py"], **forbids)
    assert rank.code == 0
    assert rank.err.count("cold start: ") == 1


# ------------------------------------------------------------- how often


def test_it_is_founded_anew_for_as_long_as_torchrun_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "AGAIN_S", 0.01)
    for name in ("RYZEN_RUN_DIR", "TORCH_FR_BUFFER_SIZE", "RANK"):
        monkeypatch.setenv(name, "1")
    worker, said = tmp_path / "ryzen-worker", tmp_path / "said"
    worker.write_text(f'#!/bin/sh\necho "$@" "$TORCHELASTIC_RUN_ID" "$RANK." >> {said}\n')
    worker.chmod(stat.S_IRWXU)
    arguments = Arguments("job", 1, 2, 1, None, worker=(str(worker), "train.py", "--x"))
    handler = handlers.RyzenRendezvousHandler(arguments, tmp_path, tmp_path / "agent.sock")
    waiting = threading.Thread(target=handler._wait_for_answer)
    waiting.start()
    wait_until(lambda: said.exists() and said.read_text().count("\n") >= 3, "three times")
    handler._on_order(local_pb2.HandlerOrder(generation=1, world=node_pb2.World(generation=1, join_id=0)))
    waiting.join()
    assert set(said.read_text().splitlines()) == {"--found train.py --x job ."}
