"""Ports as sysfs shows them. Texts as mlx5 and mlx4 drivers give them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.ports import is_saturated, parse_rate, parse_state, read_ports
from ryzen_agent.health.sysfs import SmallFiles, parse_number


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def put_port(sys: Path, device: str = "mlx5_0", **files: str) -> Path:
    """A port of a ConnectX-7; `files`: what differs."""
    put(sys / "class/infiniband" / device / "board_id", "MT_0000000838")
    folder = sys / "class/infiniband" / device / "ports/1"
    usual = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand"}
    for name, text in (usual | files).items():
        counter = name not in usual
        group = "hw_counters" if name == "rnr_nak_retry_err" else "counters"
        put(folder / group / name if counter else folder / name, text)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4: ACTIVE", "ACTIVE"), ("1: DOWN", "DOWN"), ("5: LinkUp", "LinkUp"), ("3: Disabled", "Disabled"), ("", "")],
)
def test_a_state_is_the_word_after_its_number(text: str, expected: str) -> None:
    assert parse_state(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400 Gb/sec (4X NDR)", 400.0), ("40 Gb/sec (4X QDR)", 40.0), ("2.5 Gb/sec (1X SDR)", 2.5),
        ("800 Gb/sec (4X XDR)", 800.0), ("", None), (None, None),
    ],
)  # fmt: skip
def test_a_rate_is_in_gigabits_a_second(text: str | None, expected: float | None) -> None:
    assert parse_rate(text) == expected


def test_a_counter_without_an_agent_behind_it_is_unknown_not_nought() -> None:
    assert parse_number("N/A (no PMA)") is None
    assert parse_number("0") == 0


@given(st.text())
def test_any_text_is_taken_without_an_exception(text: str) -> None:
    parse_state(text)
    parse_rate(text)
    parse_number(text)


def test_a_counter_at_the_very_end_of_its_classic_range_is_saturated_and_one_beyond_is_a_wider_counter() -> None:
    assert is_saturated("link_downed", 255)
    assert is_saturated("port_xmit_discards", 65535)
    assert is_saturated("local_link_integrity_errors", 15)
    assert not is_saturated("link_downed", 256)
    assert not is_saturated("rnr_nak_retry_err", 255)


def test_a_port_is_read_whole(tmp_path: Path) -> None:
    put_port(tmp_path, link_downed="255", symbol_error="7", port_rcv_data="1000", rnr_nak_retry_err="3")
    (port,) = read_ports(tmp_path, (), SmallFiles())
    assert port.name == "mlx5_0/1"
    assert port.is_up
    assert (port.rate_gbps, port.link_layer, port.board) == (400.0, "InfiniBand", "MT_0000000838")
    assert port.counters == {"symbol_error": 7, "port_rcv_data": 1000, "rnr_nak_retry_err": 3}
    assert port.saturated == ("link_downed",)


def test_no_device_is_nothing_here_and_an_excluded_one_is_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NothingHereError):
        read_ports(tmp_path, (), SmallFiles())
    put_port(tmp_path, "mlx5_3")
    assert read_ports(tmp_path, ("mlx5_3",), SmallFiles()) == []


def test_a_file_that_was_refused_once_is_not_read_again(tmp_path: Path) -> None:
    folder = put_port(tmp_path, symbol_error="7")
    counter = folder / "counters/symbol_error"
    counter.unlink()
    counter.symlink_to("/sys/class/net/lo/speed")  # a real file that cannot be read: EINVAL
    files = SmallFiles()
    (port,) = read_ports(tmp_path, (), files)
    assert port.counters == {}
    counter.unlink()
    counter.write_text("7\n")
    assert read_ports(tmp_path, (), files)[0].counters == {}
    assert read_ports(tmp_path, (), SmallFiles())[0].counters == {"symbol_error": 7}


def test_a_file_whose_device_is_not_well_now_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "counter").symlink_to("/proc/self/mem")  # a real file whose first byte cannot be read: EIO
    files = SmallFiles()
    assert files.number(f"{tmp_path}/counter") is None
    (tmp_path / "counter").unlink()
    put(tmp_path / "counter", "5")
    assert files.number(f"{tmp_path}/counter") == 5


def test_an_absent_file_is_looked_for_again(tmp_path: Path) -> None:
    files = SmallFiles()
    assert files.number(f"{tmp_path}/later") is None
    put(tmp_path / "later", "5")
    assert files.number(f"{tmp_path}/later") == 5


def test_a_failure_of_the_agent_is_not_taken_for_a_refusal(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    os.symlink(loop, loop)  # noqa: PTH211 - ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        SmallFiles().text(str(loop))
