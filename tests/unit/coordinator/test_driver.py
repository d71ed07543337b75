"""The driver's own tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.journal import Journal
from ryzen_coordinator.server.driver import Driver


@pytest.mark.parametrize("turns", range(6))
def test_it_stops_whatever_is_about_to_be_written_at_that_moment(tmp_path: Path, turns: int) -> None:
    async def scenario() -> None:
        driver = Driver(CoreSettings(), Journal(tmp_path / "journal.sqlite"), replay_bytes=1 << 20)
        running = asyncio.create_task(driver.run())
        await asyncio.sleep(0.1)
        driver._inputs_wait.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(running, return_exceptions=True)
        await driver.close()

    asyncio.run(scenario())
