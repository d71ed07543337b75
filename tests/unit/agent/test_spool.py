"""Events survive the agent, a torn write and a full disk; the oldest go first."""

from __future__ import annotations

from pathlib import Path

from ryzen_agent.spool import Spool
from ryzen_protos.v1 import node_pb2


def test_events_are_there_again_after_a_restart_until_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add("rank_exit", "job", {"rank": "3"})
    spool.add("kill", "job", {})
    first, second = spool.pending()
    spool.close()
    again = Spool(tmp_path / "spool")
    assert again.pending() == [first, second]
    again.acknowledge(first.id)
    assert again.pending() == [second]
    again.acknowledge(second.id)
    again.close()
    assert len(Spool(tmp_path / "spool")) == 0


def test_ids_grow_over_restarts_even_of_the_machine(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add("a", "", {})
    before = spool.pending()[0].id
    spool.acknowledge(before)
    spool.close()
    (tmp_path / "spool").unlink()
    fresh = Spool(tmp_path / "spool")
    fresh.add("b", "", {})
    assert fresh.pending()[0].id > before


def test_a_half_written_event_is_cut_off_and_the_rest_stands(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add("whole", "", {})
    spool.add("torn", "", {})
    spool.close()
    raw = (tmp_path / "spool").read_bytes()
    (tmp_path / "spool").write_bytes(raw[:-3])
    again = Spool(tmp_path / "spool")
    again.add("after", "", {})
    again.close()
    assert [each.kind for each in Spool(tmp_path / "spool").pending()] == ["whole", "after"]


def test_a_file_of_rubbish_is_an_empty_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"\xff" * 1000)
    spool = Spool(tmp_path / "spool")
    assert len(spool) == 0
    spool.add("first", "", {})
    assert [each.kind for each in spool.pending()] == ["first"]


def test_the_spool_is_bounded_in_memory_and_on_disk_and_drops_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", bytes_max=4096)
    for number in range(1000):
        spool.add("event", "job", {"number": str(number), "padding": "x" * 50})
    assert (tmp_path / "spool").stat().st_size <= 2 * 4096
    assert spool.dropped > 900
    assert spool.pending()[-1].fields["number"] == "999"
    spool.close()
    again = Spool(tmp_path / "spool", bytes_max=4096)
    assert again.pending()[-1].fields["number"] == "999"


def test_a_folder_that_cannot_be_written_costs_the_history_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    spool.add("event", "", {})
    assert len(spool) == 1
    assert spool.error is not None
    assert "memory only" in spool.error


def xid(spool: Spool, code: int) -> None:
    spool.add_health("job", node_pb2.HealthEvent(kind="xid", code=code), unix_ns=7)


def test_health_is_kept_while_there_is_telemetry_to_drop(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", bytes_max=4096)
    for code in range(10):
        xid(spool, code)
    for number in range(1000):
        spool.add("event", "job", {"number": str(number), "padding": "x" * 50})
    kept = spool.pending()
    assert [each.health.code for each in kept if each.kind == "health"] == list(range(10))
    assert kept[-1].fields["number"] == "999"
    assert [each.id for each in kept] == sorted(each.id for each in kept)
    assert kept[0].unix_ns == 7


def test_a_flood_of_health_is_bounded_too_and_drops_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", bytes_max=4096)
    for code in range(1000):
        xid(spool, code)
    kept = spool.pending()
    assert kept[-1].health.code == 999
    assert sum(each.ByteSize() for each in kept) <= 4096
    assert (tmp_path / "spool").stat().st_size <= 2 * 4096


def test_the_bound_holds_after_a_restart_and_health_has_survived(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", bytes_max=4096)
    xid(spool, 79)
    for number in range(70):
        spool.add("event", "job", {"number": str(number), "padding": "x" * 50})
    assert spool.dropped > 0
    spool.close()
    kept = Spool(tmp_path / "spool", bytes_max=4096).pending()
    assert sum(each.ByteSize() for each in kept) <= 4096
    assert kept[0].health.code == 79
    assert kept[-1].fields["number"] == "69"
