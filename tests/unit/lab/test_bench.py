"""The document of benchmarks is made anew table by table, and says what was not reached."""

import json
from pathlib import Path

import pytest

from ryzen_lab.bench import document, hang, overhead, warm
from ryzen_lab.errors import LabError
from ryzen_lab.summary import table


def result(recovered: float | None, known: float | None = 0.2) -> dict[str, object]:
    return {
        "recovered_s": recovered, "detected_s": 0.1, "known_to_exec_s": known, "steps_lost": 3, "stages_s": {},
        "exit_code": 0, "load_average": 1.0, "false_actions": 0,
    }  # fmt: skip


def test_a_table_is_replaced_and_the_others_and_the_text_around_stay(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    document.write(path, "beat", "first")
    document.write(path, "hang", "second")
    path.write_text(path.read_text() + "\nA note by hand.\n")
    document.write(path, "beat", "third")
    text = path.read_text()
    assert text.startswith("# Benchmarks")
    assert "first" not in text
    assert text.index("third") < text.index("second") < text.index("A note by hand.")


def test_the_summary_counts_only_what_is_known() -> None:
    lines = table([result(3.0), result(5.0, known=None)]).splitlines()
    known = next(line for line in lines if line.startswith("known_to_exec_s"))
    recovered = next(line for line in lines if line.startswith("recovered_s"))
    assert known.split()[-1] == "1"
    assert recovered.split() == ["recovered_s", "4.000", "3.000", "5.000", "2"]


def hung(kind: str, fault_rank: int, ranks: list[int], action: str, **more: object) -> dict[str, object]:
    verdict = {"class": "hang", "ranks": ranks, "nodes": ["node-1"], "action": action}
    return {
        **result(recovered=40.0), "fault": {"kind": kind, "rank": fault_rank, "node": "node-1", "at_step": 5},
        "suspected_s": 1.0, "detected_s": 31.0, "verdict": verdict, **more,
    }  # fmt: skip


def test_hangs_are_told_by_kind_and_stall_floor_with_how_often_the_right_rank_was_named(tmp_path: Path) -> None:
    one, lines = tmp_path / "one.json", tmp_path / "lines.jsonl"
    one.write_text(json.dumps(hung("spin", 1, [1], "restart", stall_floor_s=60.0), indent=2))
    right, wrong = hung("backward", 2, [2], "restart"), hung("backward", 2, [0], "restart")
    lines.write_text("".join(json.dumps(each) + "\n" for each in (right, wrong, {"error": "no end"})))
    text = hang.table(hang.read([one, lines]), "ryzen-lab bench hang")
    assert (
        "| spin | 60 s | 1 | 0 | 1.00 (1.00) | 31.00 (31.00) | 40.00 (40.00) | 1 of 1 | hang restart | 0 | 1.0 |"
        in text
    )
    assert "| backward | default | 2 | 0 | 1.00 (1.00) | 31.00 (31.00) | 40.00 (40.00) | 1 of 2 |" in text
    assert "| ? | default | 1 | 1 | - | - | - | 0 of 0 | - | 0 | - |" in text


def test_of_an_innocent_pause_the_right_verdict_is_none_that_acts() -> None:
    assert hang.is_right(hung("pause", 0, [], "advise"))
    assert hang.is_right(hung("pause", 0, [], "advise", verdict=None))
    assert not hang.is_right(hung("pause", 0, [0], "restart"))
    assert not hang.is_innocent("partition,kill")


def test_two_ranks_that_were_struck_must_both_be_named() -> None:
    all_ = [{"kind": "kill", "rank": 3}, {"kind": "stop", "rank": 1}]
    fault = {"kind": "kill,stop", "rank": 3, "node": "node-1", "all": all_}
    assert hang.is_right(hung("kill,stop", 3, [1, 3], "restart", fault=fault))
    assert not hang.is_right(hung("kill,stop", 3, [3], "restart", fault=fault))


@pytest.mark.parametrize("text", ["{}", "not JSON", "[1]"])
def test_what_is_no_result_of_a_trial_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(LabError, match=r"x: (not|neither)"):
        hang.read([tmp_path / "x"])


def test_forked_ranks_stand_beside_fresh_interpreters_with_the_ratio_of_the_medians() -> None:
    pair = {"cold": [4.0, 6.0, 5.0], "warm": [1.0, 2.0, 3.0]}
    names = ("first_step_s_2", "first_step_s_8", "empty_s", "imports_s", "pss_mb_2", "pss_mb_8")
    text = warm.table({"repeat": 3, "starts": 10, **dict.fromkeys(names, pair)}, "ryzen-lab bench warm --repeat 3")
    assert "| first step of a job of 2 ranks, s | 5.00 (4.00 to 6.00) | 2.00 (1.00 to 3.00) | 0.40 |" in text
    assert "| memory of 8 ranks after the first step, MB | 5 (4 to 6) | 2 (1 to 3) | 0.40 |" in text


def launch(extra_ms: dict[int, float], *, blocks: int = 3, noise_ms: float = 30.0) -> overhead.Launch:
    """Two ranks with plain steps of 100 ms; what comes on top at a place of every block; in one block, a noisy step."""

    def pair(block: int, place: int) -> overhead.Pair:
        noise = noise_ms if place % blocks == block else 0.0
        plain, having = 0.1, 0.1 + (extra_ms.get(place, 0.0) + noise) / 1000
        return (having, having), (plain, plain)

    rank: overhead.Found = {
        "replays": [((0.15, 0.15), (0.1, 0.1)), None], "window": (10.0, 20.0), "parameters": 1,
        "blocks": [[pair(block, place) for place in range(20)] for block in range(blocks)],
        "collectives": {"with": [1, 1], "without": [1, 1]},
    }  # fmt: skip
    return overhead.Launch([rank, rank], [(9.0, 0.0), (11.0, 1.0), (19.0, 1.08), (25.0, 9.0)])


def test_what_is_seldom_in_a_block_counts_and_noise_in_one_of_three_does_not() -> None:
    found = overhead.share([launch({7: 20.0})], overhead.PROCESSOR)
    assert found.extra == pytest.approx(20.0 / 100 / 20 + 0.5 / overhead.REPLAY_EVERY)
    assert found.low <= found.extra <= found.high


def test_the_cost_of_everything_stands_with_the_agents_and_the_collectives_of_both_sides() -> None:
    models = {"demo": [launch({}), launch({})], "larger": [launch(dict.fromkeys(range(20), 10.0))]}
    text = overhead.table(models, "ryzen-lab bench overhead --repeat 2")
    assert "| demo | processor time, a rank | 100.00 | 100.00 | 0.10% |" in text
    assert "| larger | time | 100.00 | 110.00 | 10.10% |" in text
    assert "180 of each in 9 blocks of 3 launches" in text.replace("\n", " ")
    assert "1.00% of a core" in text
    assert "1 plain and 1 with Ryzen (demo), 1 plain and 1 with Ryzen (larger)" in text


def test_a_place_of_which_no_pair_is_left_is_no_zero() -> None:
    gone = launch({})
    for each in gone.ranks[0]["blocks"]:
        each[3] = None
    with pytest.raises(LabError, match="at the same place"):
        overhead.share([gone], overhead.CLOCK)
