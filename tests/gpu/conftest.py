from __future__ import annotations

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.gpu import access


@pytest.fixture(scope="session")
def gpus() -> int:
    """How many NVIDIA GPUs this machine has; skips where it has none that can be asked."""
    try:
        count = access.open_driver()
    except (NothingHereError, access.DriverError) as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    if not count:
        pytest.skip("no NVIDIA GPU: the driver lists none")
    return count
