"""Random faults at random moments: whatever the interleaving, every promise in checkers/ is kept.

One seed is one exact run. `python -m tests.simulation.coordinator.run --seed N` repeats a failing one.
"""

from __future__ import annotations

import os

import pytest

from .cases import FAMILIES, case_of
from .checkers import CHECKERS
from .run import failures, report

JOBS = min(4, os.cpu_count() or 1)


def assert_kept(seeds: range) -> None:
    found = sorted(failures(seeds, JOBS))
    assert not found, "\n".join([f"{len(found)} of {len(seeds)} seeds", *(report(*each) for each in found[:3])])


@pytest.mark.timeout(1800)  # about ten seconds on two free cores; a busy machine is no failure
@pytest.mark.parametrize("first", range(0, 1000, 200))
def test_no_seed_of_a_thousand_breaks_a_promise(first: int) -> None:
    assert_kept(range(first, first + 200))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_seed_of_ten_thousand_breaks_a_promise() -> None:
    assert_kept(range(1000, 10000))


def test_a_seed_is_one_exact_run() -> None:
    assert case_of(17) == case_of(17)
    assert case_of(17) != case_of(23)


def test_every_family_has_its_seeds_and_every_checker_its_promise() -> None:
    assert {case_of(seed).family for seed in range(len(FAMILIES))} == set(FAMILIES)
    assert all(each.name and each.promise for each in CHECKERS)
    assert len({each.name for each in CHECKERS}) == len(CHECKERS)
