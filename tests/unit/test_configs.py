"""Every file in configs/ is read by the program it is for."""

from pathlib import Path

import pytest

from ryzen_agent.settings import AgentSettings
from ryzen_coordinator.settings import ServeSettings
from ryzen_protos import settings

CONFIGS = Path(__file__).parents[2] / "configs"
COMMANDS = {"agent.yaml": AgentSettings, "coordinator.yaml": ServeSettings}
TRAINERS = {"demo.yaml", "production_4process.yaml"}
"""Checked by tests/unit/trainer/test_config.py."""


def test_no_file_is_left_unchecked() -> None:
    assert {path.name for path in CONFIGS.iterdir()} == TRAINERS | set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_valid(name: str) -> None:
    read = settings.load(COMMANDS[name], {}, CONFIGS / name)
    assert read.model_fields_set


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_key_in_it_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    wrong = tmp_path / name
    wrong.write_text((CONFIGS / name).read_text() + "leese_s: 3\n")
    with pytest.raises(settings.SettingsError, match="leese_s") as caught:
        settings.load(COMMANDS[name], {}, wrong)
    assert len(str(caught.value).splitlines()) == 1
