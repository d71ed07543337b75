from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ryzen_coordinator.server import app
from ryzen_coordinator.settings import ServeSettings


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run an async test; nothing of it may be left behind."""

    def runner(test: Coroutine[Any, Any, None]) -> None:
        asyncio.run(asyncio.wait_for(test, 60))

    return runner


@pytest.fixture
def coordinator(tmp_path: Path) -> Callable[..., Any]:
    """`async with coordinator(lease_s=...) as app`: a real server on a free port with a journal of its own."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[app.App]:
        options = {"listen": "127.0.0.1:0", "journal": tmp_path / "journal.sqlite", "state_dir": tmp_path, **changes}
        running = await app.start(ServeSettings(**options))
        try:
            yield running
        finally:
            await running.stop()

    return start
