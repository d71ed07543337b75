"""A race of Ryzen and other tools: who runs when, what the table and the plot say of it, and wrong names."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ryzen_lab.bench import environments, race, race_plot, race_table
from ryzen_lab.bench.peers import PEERS, parse
from ryzen_lab.bench.peers.base import Peer, Variant
from ryzen_lab.cli import app
from ryzen_lab.errors import LabError
from ryzen_lab.launcher import Launcher
from ryzen_lab.spares import is_at_rest


def trial(who: str, recovered: float | None, *, fault: str = "kill", digest: str = "aa", **more: Any) -> dict[str, Any]:
    done = recovered is not None
    return {
        "contestant": who, "race_fault": fault, "round": 0, "recovered_s": recovered, "finished": done,
        "steps_lost": 5 if done else None, "moments_s": {"stopped": 0.2, "execed": 0.3} if done else {},
        "state_digest": digest if done else None, "digest_comparable": True, "load_average": 1.5, **more,
    }  # fmt: skip


def result(*trials: dict[str, Any], **more: Any) -> dict[str, Any]:
    names = {"ryzen": "Ryzen", "torchrun-plain": "torchrun", "nvrx-plain": "nvrx"}
    return {
        "command": "ryzen-lab bench --peers torchrun", "began": "2026-11-27T21:00:00+00:00", "cpus": 2,
        "processor": "a CPU", "patience_s": 100.0, "faults": ["kill"], "out": {},
        "contestants": [{"id": each, "name": name, "note": f"About {name}."} for each, name in names.items()],
        "versions": {"torchrun": {"python": "3.11.7", "torch": "2.13.0"}}, "trials": list(trials), **more,
    }  # fmt: skip


def row(text: str, name: str) -> list[str]:
    line = next(each for each in text.splitlines() if each.startswith(f"| {name} |"))
    return [each.strip() for each in line.strip("|").split("|")]


def test_a_row_has_median_least_most_ratio_and_how_many_recovered() -> None:
    ours = [trial("ryzen", each) for each in (1.0, 0.5, 3.0)]
    others = [trial("torchrun-plain", 5.0), trial("torchrun-plain", 3.0), trial("torchrun-plain", None)]
    text = race_table.document(result(*ours, *others), None)
    assert row(text, "Ryzen")[1:4] == ["3 of 3", "1.00 (0.50 to 3.00)", "1.0"]
    assert row(text, "torchrun")[1:4] == ["2 of 3", "4.00 (3.00 to 5.00)", "4.0"]
    assert row(text, "torchrun")[5:7] == ["0.20", "0.30"]


def test_a_new_step_of_a_job_that_then_died_is_no_recovery() -> None:
    died = trial("torchrun-plain", 4.0, finished=False)
    text = race_table.document(result(trial("ryzen", 1.0), died), None)
    assert row(text, "torchrun")[1:4] == ["0 of 1", "-", "-"]


def test_an_error_after_the_fault_counts_as_not_recovered() -> None:
    failed = {
        "contestant": "nvrx-plain", "race_fault": "kill", "round": 0, "error": "no end", "load_average": 2.0,
    }  # fmt: skip
    text = race_table.document(result(trial("ryzen", 1.0), trial("nvrx-plain", 4.0), failed), None)
    assert row(text, "nvrx")[1:3] == ["1 of 2", "4.00 (4.00 to 4.00)"]


def test_who_could_not_start_is_a_row_with_the_reason() -> None:
    never = {
        "contestant": "nvrx-plain", "race_fault": "kill", "round": 0, "error": "no | module", "not_started": True,
        "load_average": 2.0,
    }  # fmt: skip
    text = race_table.document(result(trial("ryzen", 1.0), never, out={"nvrx-plain": "no | module"}), None)
    assert row(text, "nvrx")[1:3] == ["-", "no / module"]
    assert "Not measured: no | module." in text


def test_same_bits_are_counted_against_what_most_end_with_and_only_where_the_world_kept_its_size() -> None:
    trials = [trial("ryzen", 1.0), trial("ryzen", 1.0), trial("torchrun-plain", 2.0, digest="bb")]
    shrunk = [trial("nvrx-plain", 2.0, digest="cc", digest_comparable=False)]
    text = race_table.document(result(*trials, *shrunk), None)
    assert [row(text, each)[9] for each in ("Ryzen", "torchrun", "nvrx")] == ["2 of 2", "0 of 1", "0 of 0"]


def test_the_section_says_command_versions_load_and_patience() -> None:
    text = race_table.document(result(trial("ryzen", 1.0)), "peers.svg")
    for said in (
        "`ryzen-lab bench --peers torchrun`",
        "torch 2.13.0",
        "load average 1.5 to 1.5",
        "100 s",
        "(peers.svg)",
    ):
        assert said in text


def test_a_race_that_was_broken_off_says_so() -> None:
    assert "broken off after 1 trials" in race_table.document(result(trial("ryzen", 1.0)), None)
    ended = result(trial("ryzen", 1.0), ended="2026-11-27T22:00:00+00:00")
    assert "broken off" not in race_table.document(ended, None)


def test_the_same_result_is_the_same_plot_with_every_contestant_that_ran(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    raced = result(trial("ryzen", 1.0), trial("torchrun-plain", 4.0), trial("torchrun-plain", None))
    race_plot.write(raced, tmp_path / "docs" / "one.svg")
    race_plot.write(raced, tmp_path / "two.svg")
    text = (tmp_path / "two.svg").read_text()
    assert (tmp_path / "docs" / "one.svg").read_text() == text
    assert ">Ryzen<" in text
    assert ">torchrun<" in text
    assert ">nvrx<" not in text


def test_each_contestant_begins_in_its_turn() -> None:
    contestants = parse("torchrun,nvrx")
    firsts = [race.rotated(contestants, number)[0][1].id for number in range(len(contestants) + 1)]
    assert firsts == ["ryzen", "torchrun-plain", "torchrun-store", "nvrx-plain", "nvrx-heartbeats", "ryzen"]
    assert all(len(race.rotated(contestants, number)) == len(contestants) for number in range(3))


def test_who_never_recovered_from_a_fault_is_struck_by_it_no_third_time_and_who_once_did_is() -> None:
    never = [trial("nvrx-plain", None), {"contestant": "nvrx-plain", "race_fault": "kill", "error": "no end"}]
    assert not race.is_hopeless(never[:1])
    assert race.is_hopeless(never)
    assert not race.is_hopeless([*never, trial("nvrx-plain", 4.0)])


def test_a_peers_name_is_all_its_variants_and_ryzen_is_always_there_once() -> None:
    assert [each.id for _peer, each in parse("torchrun-store")] == ["ryzen", "torchrun-store"]
    assert [each.id for _peer, each in parse("torchrun, torchrun-store")] == [
        "ryzen", "torchrun-plain", "torchrun-store",
    ]  # fmt: skip


def test_the_command_names_what_was_run() -> None:
    raced = race.Race(parse("nvrx-plain"), ["kill"], 20, 60.0, 7)
    assert race.command_line(raced, Path("out/x.json")) == (
        "ryzen-lab bench --peers nvrx-plain --faults kill --repeat 20 --patience-s 60 --seed 7 --json x.json"
    )


WRONG = {
    "unknown peer": (["--peers", "slurm"], "'slurm' is not a peer; allowed: ryzen-cold"),
    "unknown fault": (["--faults", "kill,flood"], "'flood' is not among the faults; allowed: kill"),
    "no fault": (["--faults", ","], "option --faults: none given"),
    "for another part": (["beat", "--peers", "torchrun"], "are for the part 'peers'"),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_option_is_one_line_and_exit_2(arguments: list[str], expected: str) -> None:
    ran = CliRunner().invoke(app, ["bench", *arguments])
    assert ran.exit_code == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert expected in ran.stderr


def test_an_unknown_peer_is_not_installed() -> None:
    ran = CliRunner().invoke(app, ["install-peers", "slurm"])
    assert (ran.exit_code, len(ran.stderr.strip().splitlines())) == (2, 1)


@pytest.mark.parametrize("text", ["{}", "not JSON", "[1]"])
def test_what_is_no_result_of_a_race_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(LabError, match="x: not"):
        race_table.read(tmp_path / "x")


def test_tables_and_plot_are_made_of_an_earlier_result(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    (tmp_path / "x.json").write_text(json.dumps(result(trial("ryzen", 1.25))))
    out = tmp_path / "docs.md"
    ran = CliRunner().invoke(app, ["bench", "peers", "--from", str(tmp_path / "x.json"), "--out", str(out)])
    assert ran.exit_code == 0
    assert "1.25 (1.25 to 1.25)" in out.read_text()
    assert (tmp_path / race_plot.NAME).exists()


def test_a_peer_without_its_environment_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ryzen_lab.bench.peers.base.ENVIRONMENTS", tmp_path)
    assert "make bench-peers" in PEERS["nvrx"].missing()
    assert PEERS["torchrun"].missing() == ""
    assert "Manager" in PEERS["torchft"].missing()
    assert PEERS["nvrx"].versions("python") == {}


def test_a_peer_that_cannot_be_installed_is_a_reason_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ryzen_lab.bench.peers.base.ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    (tmp_path / "constraints.txt").write_text("")
    peer = Peer("none", (Variant("none", "None", "."),), "none", requirements=("./no-such-folder",))
    assert environments.install(peer, lambda _line: None)
    assert (tmp_path / "none" / "bin" / "python").exists()
    assert "make bench-peers" in peer.missing()  # what pip left half done is not taken for a peer


def test_placeholders_of_a_launcher_are_filled() -> None:
    launcher = Launcher("x", ("--at={endpoint}",), ("--n={node}",), environment={"A": "{port}"}, master=("{nodes}",))
    filled = launcher.filled({"endpoint": "h:1", "node": 2, "port": 1, "nodes": 3})
    assert (filled.rendezvous, filled.options, filled.master) == (("--at=h:1",), ("--n=2",), ("3",))
    assert filled.environment == {"A": "1"}


@pytest.mark.parametrize(("before_s", "now_s", "ready"), [(0.1, 0.5, False), (0.6, 1.6, False), (1.6, 1.62, True)])
def test_a_spare_is_ready_once_it_has_imported_and_rests(before_s: float, now_s: float, ready: bool) -> None:
    assert is_at_rest(before_s, now_s) is ready
