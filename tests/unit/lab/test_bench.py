"""The document of benchmarks is made anew table by table, and says what was not reached."""

from pathlib import Path

from ryzen_lab.bench import document
from ryzen_lab.summary import table


def result(recovered: float | None, known: float | None = 0.2) -> dict[str, object]:
    return {
        "recovered_s": recovered, "detected_s": 0.1, "known_to_exec_s": known, "steps_lost": 3, "stages_s": {},
        "exit_code": 0, "load_average": 1.0, "false_actions": 0,
    }  # fmt: skip


def test_a_table_is_replaced_and_the_others_and_the_text_around_stay(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    document.write(path, "beat", "first")
    document.write(path, "spine", "second")
    path.write_text(path.read_text() + "\nA note by hand.\n")
    document.write(path, "beat", "third")
    text = path.read_text()
    assert text.startswith("# Benchmarks")
    assert "first" not in text
    assert text.index("third") < text.index("second") < text.index("A note by hand.")


def test_a_row_gives_median_least_and_most_and_how_many_recovered() -> None:
    rows = [{"name": "ours", "results": [result(3.0), result(2.0), result(9.0)], "failures": ["never"]}]
    text = document.spine_table(rows, "ryzen-lab bench spine")
    assert "| ours | 0.10 (0.10 to 0.10) | 0.20 (0.20 to 0.20) | 3.00 (2.00 to 9.00) | 3 (3 to 3) | 3 of 4 |" in text


def test_a_row_that_never_recovered_has_no_figures() -> None:
    text = document.spine_table([{"name": "stock", "results": [], "failures": ["never"]}], "command")
    assert "| stock | - | - | - | - | 0 of 1 | - |" in text


def test_the_summary_counts_only_what_is_known() -> None:
    lines = table([result(3.0), result(5.0, known=None)]).splitlines()
    known = next(line for line in lines if line.startswith("known_to_exec_s"))
    recovered = next(line for line in lines if line.startswith("recovered_s"))
    assert known.split()[-1] == "1"
    assert recovered.split() == ["recovered_s", "4.000", "3.000", "5.000", "2"]
