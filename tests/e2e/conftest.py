import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .trials import STEPS, Trial, finish, start


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets stay below the 107 bytes that the kernel allows; pytest's own do not."""
    folder = Path(tempfile.mkdtemp(prefix="rz"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def trial(short_path: Path) -> Trial:
    """Run `ryzen-lab trial` with these arguments; its result."""

    def run(*arguments: str, steps: int = STEPS, after: tuple[str, ...] = ()) -> dict[str, Any]:
        out = short_path / "out.json"
        lab = start(short_path, "trial", *arguments, "--steps", str(steps), "--json", str(out), *after)
        return finish(lab, short_path, out)

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The reference trainer left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    out = folder / "out.json"
    return finish(start(folder, "trial", "--steps", str(STEPS), "--json", str(out)), folder, out)
