"""Options: which source wins, and what a wrong one is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.settings import ServeSettings
from ryzen_protos.settings import SettingsError, load


def test_defaults_are_those_of_the_core() -> None:
    assert load(ServeSettings, {}).core() == CoreSettings()


def test_a_flag_beats_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("lease_s: 3\nrestart_budget: 3\ngrow: never\n")
    monkeypatch.setenv("RYZEN_LEASE_S", "4")
    monkeypatch.setenv("RYZEN_RESTART_BUDGET", "4")
    core = load(ServeSettings, {"lease_s": "5"}, file).core()
    assert (core.lease_s, core.restart_budget, core.grow) == (5.0, 4, "never")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"lease_s": "0.1"}, ["--lease-s", "'0.1'", "greater than or equal to 0.5"]),
        ({"grow": "soon"}, ["--grow", "'soon'", "'checkpoint', 'now' or 'never'"]),
        ({"restart_budget": "many"}, ["--restart-budget", "'many'", "integer"]),
        ({"hang_mode": "maybe"}, ["--hang-mode", "'maybe'"]),
        ({"health_evict_on": "13,x"}, ["--health-evict-on", "'x'", "integer"]),
        ({"health_evict_share": "2"}, ["--health-evict-share", "'2'", "less than or equal to 1"]),
    ],
)
def test_a_wrong_value_is_one_line_with_all_that_is_needed(flags: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as wrong:
        load(ServeSettings, flags)
    line = str(wrong.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "text", ["health_evict_on: [13, 31, 79]", "health_evict_on: 13,31,79", "health: {evict_on: [13, 31, 79]}"]
)
def test_xids_are_a_list_in_a_file_and_words_with_commas_on_a_command_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text + "\n")
    assert load(ServeSettings, {}, file).core().health_evict_on == (13, 31, 79)
    assert load(ServeSettings, {"health_evict_on": " 13, 31 ,79"}).core().health_evict_on == (13, 31, 79)
    assert load(ServeSettings, {"health_evict_on": ""}, file).core().health_evict_on == ()


def test_an_unknown_key_of_a_file_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("leese_s: 3\n")
    with pytest.raises(SettingsError, match="leese_s: unknown key"):
        load(ServeSettings, {}, file)


def test_every_setting_of_the_core_has_a_sentence() -> None:
    source = (Path(__file__).resolve().parents[3] / "coordinator/ryzen_coordinator/core/settings.py").read_text()
    for each in fields(CoreSettings):
        after = source.split(f"    {each.name}: ", 1)[1].split("\n", 2)[1].strip()
        assert after.startswith('"""'), each.name
