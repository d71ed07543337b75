"""The table of Xids: what decides between a restart and another node."""

from __future__ import annotations

from typing import get_args

import pytest

from ryzen_agent.health import xid_table
from ryzen_agent.health.model import Action


@pytest.mark.parametrize(
    ("xid", "fault_class", "action"),
    [
        (13, "app", "restart_app_then_repeat"),
        (31, "app", "restart_app_then_repeat"),
        (43, "app", "ignore"),
        (45, "sympathetic", "follow_other"),
        (48, "hw", "reset_gpu"),
        (63, "hw-info", "ignore"),
        (79, "hw", "reboot"),
        (94, "hw", "restart_app"),
        (95, "hw", "reset_gpu"),
        (119, "hw", "reset_gpu"),
        (172, "meta", "follow_other"),
    ],
)
def test_what_is_done_about_the_xids_that_matter(xid: int, fault_class: str, action: str) -> None:
    known = xid_table.meaning(xid)
    assert (known.fault_class, known.action) == (fault_class, action)


def test_every_number_of_the_drivers_header_is_there_with_words_and_a_legal_action() -> None:
    table = xid_table.table()
    assert sorted(table) == list(range(1, 177))
    assert all(each.mnemonic and each.description and each.fault_class for each in table.values())
    assert {each.action for each in table.values()} <= set(get_args(Action))


def test_a_number_that_nobody_knows_is_told_and_not_acted_on() -> None:
    assert xid_table.meaning(4711) == ("", "unknown", "watch_repeat", "not in the table of Xids")


def test_what_only_the_text_can_tell_is_not_acted_on_by_number() -> None:
    assert {xid_table.meaning(xid).action for xid in (*xid_table.NVLINK5, xid_table.RECOVERY_ACTION)} == {
        "watch_repeat"
    }
