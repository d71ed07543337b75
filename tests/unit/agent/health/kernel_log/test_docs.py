"""docs/health.md says of the kernel's log what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

from ryzen_agent.health.collectors import kernel_log
from ryzen_agent.health.kernel_log import bursts, pace, silences

ROOT = Path(__file__).resolve().parents[5]
DOCUMENT = (ROOT / "docs" / "health.md").read_text()


def test_the_tables_are_those_of_the_code() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "kernel_log_table.py"))
    assert script["embedded"](DOCUMENT) == script["tables"](), "run: python scripts/kernel_log_table.py --write"


def test_the_numbers_in_the_words_are_those_of_the_code() -> None:
    words = " ".join(DOCUMENT.split())
    assert f"one event with a count every {bursts.WINDOW_S:.0f} seconds" in words
    assert pace.SHARE == 0.5
    assert "half a core in the long run, after one CPU second" in words
    assert pace.CREDIT_S == 1.0
    assert (
        f"for {silences.STANDS_S / 60:.0f} minutes ({silences.STANDS_TIMED_OUT_S / 60:.0f} where a soft mount" in words
    )
    assert kernel_log.KernelLog.deadline_s == kernel_log.WAIT_S * 2
