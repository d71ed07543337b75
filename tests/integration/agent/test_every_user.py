"""An agent of root opens a door in each user's folder, and that user can come in."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
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


KNOCK = """
import os, socket, sys, time
os.setuid(int(sys.argv[1]))
deadline = time.monotonic() + 20
while True:
    try:
        socket.socket(socket.AF_UNIX).connect(sys.argv[2])
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"", sys.argv[3])
        break
    except (ConnectionRefusedError, FileNotFoundError):
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)
"""


async def can_come_in(uid: int, place: Path) -> bool:
    """Whether a process of `uid` reaches both sockets of a run directory, which are about to be opened."""
    sockets = str(run_dir.agent_socket(place)), str(run_dir.nudge_socket(place))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KNOCK, str(uid), *sockets, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0 or b"PermissionError" in errors, errors
    return process.returncode == 0


def test_a_folder_that_appears_is_served_for_its_owner_only(shared: Path) -> None:
    async def scenario() -> None:
        served = EveryUsers(shared, state_folder=shared.parent / "state")
        agent = Agent(node_pb2.NodeHello(node="n", address="127.0.0.1"), served, "127.0.0.1:1", None)
        running = asyncio.create_task(agent.run())
        folder = shared / str(OWNER)
        folder.mkdir(mode=0o700)
        os.chown(folder, OWNER, OWNER)
        assert await can_come_in(OWNER, folder)
        assert not await can_come_in(STRANGER, folder)
        await agent.stop("done")
        running.cancel()
        assert not (folder / "agent.sock").exists()

    asyncio.run(scenario())
