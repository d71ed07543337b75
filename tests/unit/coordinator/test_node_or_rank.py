"""A script without beat pages dies of a lost peer with a bare exit code 1: that must not name the survivor."""

from __future__ import annotations

import pytest

from ryzen_coordinator.core import blame
from ryzen_coordinator.core.blame import Failure


def failure(**fields: object) -> Failure:
    return Failure(**{"rank": 0, "node": "node-0", "exit_code": 1, "ended_s": 1.0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [1, -6])
def test_a_bare_exit_may_be_the_consequence_of_a_node_that_has_not_spoken(code: int) -> None:
    assert blame.may_follow(failure(exit_code=code))


@pytest.mark.parametrize(
    "own",
    [
        {"exit_code": -9},
        {"exit_code": -11},
        {"exit_code": 3},
        {"error_type": "ValueError", "error_message": "bad batch"},
    ],
)
def test_a_cause_of_its_own_waits_for_nobody(own: dict[str, object]) -> None:
    assert not blame.may_follow(failure(**own))
