"""docs/health.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ryzen_agent.health.node_rules import SECTIONS
from ryzen_agent.health.port_rules import COUNTER_LIMITS

DOCUMENT = (Path(__file__).resolve().parents[4] / "docs/health.md").read_text()


def section(name: str) -> str:
    return DOCUMENT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_condition_is_in_its_section_of_the_documentation_as_the_code_has_it(name: str) -> None:
    rows = [each.row() for each in SECTIONS[name]]
    documented = [line for line in section(name).splitlines() if re.match(r"\| `\w+\.\w+` \|", line)]
    assert documented == rows


def test_the_limits_of_error_counters_are_those_of_the_documentation() -> None:
    documented = [line for line in section("InfiniBand and RoCE").splitlines() if re.match(r"\| `\w+` \|", line)]
    assert documented == [each.row() for each in COUNTER_LIMITS]


def test_nothing_seen_of_the_host_takes_a_node_from_a_job_that_runs() -> None:
    assert {each.action for rules in SECTIONS.values() for each in rules} <= {"watch_repeat", "ignore"}


def test_no_condition_has_two_rules() -> None:
    names = [each.name for rules in SECTIONS.values() for each in rules]
    assert len(names) == len(set(names))
