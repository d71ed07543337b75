"""How fast ranks train, from real pages: every figure against arithmetic on what was written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ryzen_agent.pace import WINDOW_STEPS, RankSteps, steps_of, sum_share, together
from ryzen_agent.status import lines
from ryzen_protos.beat_page import BeatReader, BeatWriter, Header, Measures
from ryzen_protos.v1 import local_pb2, node_pb2

S = 1_000_000_000
STEP_S, TOKENS, SAMPLES = 0.5, 1000, 4
WORTH = Measures(flops_per_token=6e6, hardware_factor=4 / 3, peak_flops=24e9)


def rank(
    folder: Path,
    number: int = 0,
    steps: int = 10,
    step_s: float = STEP_S,
    measures: Measures | None = WORTH,
    loss: float | None = 2.0,
    flops: float | None = None,
    tokens: int = TOKENS,
) -> RankSteps:
    """A rank whose first step took a minute, and whose others waited a tenth of their time for data."""
    path = folder / f"rank-{number}.beat"
    writer = BeatWriter(path, Header("job", 1, number, number, 2, 1, 1, 1))
    data, forward = writer.section_index("data"), writer.section_index("forward")
    assert (data, forward) == (1, 2)
    if measures is not None:
        writer.measures(measures)
    for step in range(steps):
        lasted_s = step_s if step else 60.0
        spent = [0.05 * lasted_s, 0.1 * lasted_s, 0.85 * lasted_s, *[0.0] * 5]
        writer.step_done(step, step * S, int(lasted_s * S), tokens, 0, 0.0, spent)
    given = (loss is not None) | (flops is not None) << 3
    writer.progress(
        steps, steps, 0, S, S, tokens * steps, SAMPLES * steps, given=given, loss=loss or 0.0, flops=flops or 0.0
    )
    reader = BeatReader(path)
    progress = reader.progress()
    assert progress is not None
    return steps_of(number, progress, reader)


def test_rates_are_sums_over_the_ranks_and_the_first_step_is_in_no_window(tmp_path: Path) -> None:
    pace = together(1, [rank(tmp_path, 0), rank(tmp_path, 1)])
    assert list(pace.ranks) == [0, 1]
    assert pace.steps == 9
    assert pace.step_s == pytest.approx(STEP_S)
    assert pace.tokens_per_s == pytest.approx(2 * TOKENS / STEP_S)
    assert pace.samples_per_s == pytest.approx(2 * SAMPLES / STEP_S)


def test_mfu_is_the_models_flops_over_the_peak_and_hfu_counts_what_is_recomputed(tmp_path: Path) -> None:
    pace = together(1, [rank(tmp_path, 0), rank(tmp_path, 1)])
    assert pace.flops_per_s / pace.peak_flops == pytest.approx(TOKENS * 6e6 / STEP_S / 24e9)  # a half
    assert pace.hardware_flops_per_s / pace.flops_per_s == pytest.approx(4 / 3)


def test_one_rank_without_a_peak_and_there_is_no_mfu(tmp_path: Path) -> None:
    pace = together(1, [rank(tmp_path, 0), rank(tmp_path, 1, measures=None)])
    assert pace.peak_flops == 0
    assert "MFU" not in said(pace)


def test_a_figure_of_the_users_own_serves_where_no_token_has_a_price(tmp_path: Path) -> None:
    assert together(1, [rank(tmp_path, 0, measures=None, flops=3e9)]).flops_per_s == pytest.approx(3e9 / STEP_S)
    per_step = Measures(flops_per_step=5e9, peak_flops=24e9)
    assert together(1, [rank(tmp_path, 1, measures=per_step, tokens=0)]).flops_per_s == pytest.approx(5e9 / STEP_S)


def test_samples_are_told_without_tokens_too(tmp_path: Path) -> None:
    assert together(1, [rank(tmp_path, tokens=0)]).samples_per_s == pytest.approx(SAMPLES / STEP_S)


def test_the_sections_add_up_to_the_step_and_the_wait_for_data_is_one(tmp_path: Path) -> None:
    pace = together(1, [rank(tmp_path, 0), rank(tmp_path, 1, step_s=2 * STEP_S)])
    sections = dict(zip(pace.sections, pace.section_s, strict=True))
    assert sum(sections.values()) == pytest.approx(pace.step_s, rel=0.02)
    assert sections["data"] / pace.step_s == pytest.approx(0.1)


def test_only_the_newest_steps_count(tmp_path: Path) -> None:
    found = rank(tmp_path, steps=300)
    assert len(found.steps) == WINDOW_STEPS
    assert [each.step for each in found.steps] == list(range(300 - WINDOW_STEPS, 300))


def test_nothing_is_said_before_a_step_beyond_the_first(tmp_path: Path) -> None:
    assert not rank(tmp_path, steps=1).steps


def test_a_loss_that_is_no_number_is_told_apart_from_none(tmp_path: Path) -> None:
    pace = together(1, [rank(tmp_path, 0), rank(tmp_path, 1, loss=math.nan), rank(tmp_path, 2, loss=None)])
    assert pace.loss[0] == 2.0
    assert pace.loss[1] == math.inf
    assert math.isnan(pace.loss[2])


def test_a_person_reads_speed_mfu_and_where_the_time_goes(tmp_path: Path) -> None:
    text = said(together(1, [rank(tmp_path, 0), rank(tmp_path, 1)]))
    for words in ("step 0.5 s", "4000 tokens/s", "16.0 samples/s", "MFU 50.0%", "HFU 66.7%", "data 10%", "forward 85%"):
        assert words in text


def test_sums_that_overlap_count_once_and_only_within_the_window(tmp_path: Path) -> None:
    steps = rank(tmp_path).steps  # step n began at n seconds and lasted half a second; the window is of 1 to 9.5 s
    second = 1_000_000_000
    inside = [(2 * second, 3 * second), (int(2.5 * second), 4 * second), (6 * second, 7 * second)]
    assert sum_share(steps, inside) == pytest.approx(3 / 7.5), "from the oldest sum on: the ring may hold no more"
    assert sum_share(steps, [(0, second), *inside]) == pytest.approx(3 / 8.5)
    assert sum_share(steps, [(2 * second, 99 * second)]) == pytest.approx(1)
    assert sum_share(steps, []) == 0
    assert sum_share([], inside) == 0


def test_sums_are_told_with_their_share_and_how_long_one_takes(tmp_path: Path) -> None:
    sums = [(n * S, n * S + S // 4) for n in range(1, 10)]
    pace = together(1, [rank(tmp_path)._replace(sums=sums)])
    assert pace.communication_s / pace.step_s == pytest.approx(9 * 0.25 / 8.5)
    assert (pace.all_reduce_p50_s, pace.all_reduce_p99_s) == (0.25, 0.25)
    assert "communication 26%" in said(pace)


def said(pace: node_pb2.Pace) -> str:
    job = node_pb2.ObservedJob(run_id="job", user="me", pace=pace)
    return "\n".join(lines(local_pb2.LocalStatus(jobs=[job])))
