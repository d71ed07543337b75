"""An agent of root opens a door in each user's folder, and that user can come in."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_agent.agent import Agent
from ryzen_agent.places import EveryUsers, make_shared
from ryzen_protos import run_dir
from ryzen_protos.v1 import node_pb2

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can serve other users")
STRANGER, OWNER = 4321, 1234


@pytest.fixture
def shared() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="ryzen-test-"))
    path.chmod(0o755)
    make_shared(path / "run")
    yield path / "run"
    shutil.rmtree(path)


def as_user(uid: int, place: Path) -> bool:
    """Whether a process of `uid` can reach both sockets of a run directory."""
    child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(run_dir.agent_socket(place)))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.sendto(b"", str(run_dir.nudge_socket(place)))
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def test_a_folder_that_appears_is_served_for_its_owner_only(shared: Path) -> None:
    async def scenario() -> None:
        served = EveryUsers(shared, state_folder=shared.parent / "state")
        agent = Agent(node_pb2.NodeHello(node="n", address="127.0.0.1"), served, "127.0.0.1:1", None)
        running = asyncio.create_task(agent.run())
        folder = shared / str(OWNER)
        folder.mkdir(mode=0o700)
        os.chown(folder, OWNER, OWNER)
        async with asyncio.timeout(20):
            while not (folder / "agent.sock").exists():  # noqa: ASYNC110 - the folder is all that can be watched
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(as_user, OWNER, folder)
        assert not await asyncio.to_thread(as_user, STRANGER, folder)
        await agent.stop("done")
        running.cancel()
        assert not (folder / "agent.sock").exists()

    asyncio.run(scenario())
