"""Gradient sums are measured without changing a bit of the result: real ranks on gloo, three of them.

Three, because a division and a multiplication by one third round differently, and two ranks would not show it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzen_agent.pace import steps_of, sum_share
from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader

RANKS = 3


def train(folder: Path, how: str) -> list[dict[str, Any]]:
    """What each rank printed."""
    run = folder / how
    run.mkdir(mode=0o700)
    command = [sys.executable, str(Path(__file__).with_name("summing.py")), how, str(folder / f"{how}.store")]
    common = {**os.environ, "RYZEN_RUN_DIR": str(run), "TORCHELASTIC_RUN_ID": "job", "WORLD_SIZE": str(RANKS)}
    ranks = [
        subprocess.Popen(
            command, env={**common, "RANK": str(n), "LOCAL_RANK": str(n)}, stdout=subprocess.PIPE, text=True
        )
        for n in range(RANKS)
    ]
    said = [each.communicate(timeout=120)[0] for each in ranks]
    assert [each.returncode for each in ranks] == [0] * RANKS
    return [json.loads(each.splitlines()[-1]) for each in said]


def test_measured_gradient_sums_leave_every_bit_as_it_was_and_say_how_long_they_took(tmp_path: Path) -> None:
    plain, measured = train(tmp_path, "plain"), train(tmp_path, "measured")
    assert [each["measured"] for each in plain + measured] == [False] * RANKS + [True] * RANKS
    assert len({each["digest"] for each in plain + measured}) == 1
    for local_rank in range(RANKS):
        reader = BeatReader(run_dir.beat_page(tmp_path / "measured", "job", local_rank))
        progress = reader.progress()
        assert progress is not None
        seen = steps_of(local_rank, progress, reader)
        assert len(seen.sums) > len(seen.steps), "more than one bucket a step"
        share = sum_share(seen.steps, seen.sums)
        assert 0 < share <= 1
        if local_rank != 1:
            waited_s = max((ended - began) / 1e9 for began, ended in seen.sums)
            assert waited_s > 0.03, "rank 1 kept the others waiting for 0.05 s"
    assert not BeatReader(run_dir.beat_page(tmp_path / "plain", "job", 0)).sums()


@pytest.mark.parametrize("how", ["own", "builtin"])
def test_a_hook_of_the_scripts_own_is_left_alone(tmp_path: Path, how: str) -> None:
    assert [each["measured"] for each in train(tmp_path, how)] == [False] * RANKS
