"""docs/health.md says what the judgement does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ryzen_coordinator.core import brakes, conditions, health_judge, health_record
from ryzen_coordinator.core.events import HealthSeen
from ryzen_coordinator.core.settings import CoreSettings

TEXT = (Path(__file__).parents[3] / "docs/health.md").read_text().split("## What is done about it", 1)[1]
ROWS = [
    (word, row.split("|")[2].strip())
    for row in TEXT.splitlines()
    if row.startswith("| `")
    for word in re.findall(r"`(\w+)`", row.split("|")[1])
]


def test_every_word_that_does_something_is_in_the_table() -> None:
    assert {word for word, _ in ROWS} >= health_judge.EVICTING | health_judge.RESTARTING


@pytest.mark.parametrize(("word", "said"), ROWS)
def test_the_table_says_what_follows_from_an_event(word: str, said: str) -> None:
    assert said.startswith(health_judge.course(HealthSeen(1, 0.0, "xid", action=word), ()))


def test_the_figures_are_those_in_force() -> None:
    settings = CoreSettings()
    assert health_record.HISTORY_S == 24 * 3600
    assert (health_record.window_s(31), health_record.window_s(13)) == (180, 15)
    assert health_judge.FOLLOWED_S == brakes.EVICTIONS_WITHIN_S == 3600
    assert (settings.health_collect_s, settings.health_evict_share, brakes.EVICTIONS_LEAST) == (0.5, 0.1, 2)
    assert (health_record.NEAR_S, conditions.AGAIN_S) == (5, 600)
    assert (conditions.TOGETHER_LEAST, conditions.TOGETHER_SHARE) == (2, 0.25)
