"""One node a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Coordinator, Node


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    made = Coordinator()
    made.start()
    yield made
    made.close()


@pytest.fixture
def node(tmp_path: Path, coordinator: Coordinator) -> Iterator[Node]:
    made = Node(tmp_path, coordinator)
    yield made
    made.close()
