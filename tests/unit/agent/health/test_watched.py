"""Whose processes are looked at."""

from __future__ import annotations

from ryzen_agent.health.watched import Watched


def test_each_job_has_its_own_ranks_and_one_without_any_is_over() -> None:
    watched = Watched()
    watched.put("a", [1, 2])
    watched.put("b", [3])
    assert watched.pids() == ((1, "a"), (2, "a"), (3, "b"))
    watched.put("a", [4])
    watched.put("b", [])
    assert watched.pids() == ((4, "a"),)
