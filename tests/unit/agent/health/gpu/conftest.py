from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_lab import mock_nvml
from ryzen_lab.mock_nvml import Faults


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mock driver, compiled once: `new/` and `old/`."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler: the mock GPU driver cannot be built")
    folder = tmp_path_factory.mktemp("libraries")
    mock_nvml.build(folder / "new")
    mock_nvml.build(folder / "old", old_driver=True)
    return folder


@pytest.fixture
def faults(libraries: Path, tmp_path: Path) -> Iterator[Faults]:
    """A driver with eight healthy GPUs in a folder of its own."""
    folder = tmp_path / "driver"
    folder.mkdir()
    shutil.copy(libraries / "new" / mock_nvml.LIBRARY, folder)
    found = Faults(folder)
    found.driver(count=8)
    yield found
    found.healthy()  # lets go of who still hangs
