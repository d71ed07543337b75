"""Random faults at random moments: whatever the interleaving, every promise in checkers/ is kept.

One seed is one exact run. `python -m tests.simulation.coordinator.run --seed N` repeats a failing one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import run
from .cases import FAMILIES, case_of
from .checkers import CHECKERS

ROOT = Path(__file__).resolve().parents[3]


def assert_kept(first: int, beyond: int) -> None:
    """By the command that a person uses: this process has threads and modules that its copies would not stand."""
    command = [sys.executable, "-m", run.__name__, "--seeds", f"{first}:{beyond}", "--most", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{beyond - first} seeds, 0 failing" in done.stdout


@pytest.mark.timeout(600)  # about ten seconds on two free cores; a busy machine is no failure
@pytest.mark.parametrize("first", range(0, 1000, 200))
def test_no_seed_of_a_thousand_breaks_a_promise(first: int) -> None:
    assert_kept(first, first + 200)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_seed_of_ten_thousand_breaks_a_promise() -> None:
    assert_kept(1000, 10000)


def test_a_seed_is_one_exact_run() -> None:
    assert case_of(17) == case_of(17)
    assert case_of(17) != case_of(23)


def test_every_family_has_its_seeds_and_every_checker_its_promise() -> None:
    assert {case_of(seed).family for seed in range(len(FAMILIES))} == set(FAMILIES)
    assert all(each.name and each.promise for each in CHECKERS)
    assert len({each.name for each in CHECKERS}) == len(CHECKERS)
