"""Every scenario file gives what it says. `pytest --rewrite` puts what really comes out into the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from .scenario import Scenario

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
RULE = "----"


def replay(text: str) -> str:
    """The file with its results made anew."""
    scenario = Scenario()
    blocks = []
    for block in text.strip().split("\n\n"):
        commands = block.split(f"\n{RULE}", 1)[0].splitlines()
        for line in commands:
            if not line.startswith("#"):
                scenario.run(line)
        only_words = all(line.startswith("#") for line in commands)
        blocks.append("\n".join(commands if only_words else [*commands, RULE, *scenario.said()]))
    return "\n\n".join(blocks) + "\n"


def test_there_are_scenarios() -> None:
    assert len(FILES) > 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file: Path, request: pytest.FixtureRequest) -> None:
    written = file.read_text()
    given = replay(written)
    if request.config.getoption("--rewrite"):
        file.write_text(given)
    else:
        assert given == written
