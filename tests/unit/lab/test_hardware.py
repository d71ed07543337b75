"""The lines that the lab writes are those of real drivers: the agent's parser knows each of them."""

import time
from pathlib import Path

import pytest

from ryzen_agent.health.kernel_log.finder import Finder
from ryzen_lab.cluster import Node
from ryzen_lab.errors import UsageError
from ryzen_lab.faults import parse
from ryzen_lab.faults.hardware import INNOCENT, XIDS, Xid


@pytest.mark.parametrize("what", XIDS)
def test_every_line_is_read_as_the_xid_that_it_is(tmp_path: Path, what: str) -> None:
    node = Node("node-0", 0, tmp_path)
    code, _, _ = what.partition(":")
    node.kernel_says(f"NVRM: Xid (PCI:0000:20:00): {code}, {XIDS[what].format(pid=77)}")
    (line,) = node.kernel_log.read_bytes().splitlines()
    seen = Finder().look(line, time.time())
    assert seen is not None
    assert seen.finding is not None
    assert (seen.finding.code, seen.finding.pci) == (int(code), "0000:20:00")
    assert seen.finding.pid in (77, None)
    acts = seen.finding.action not in ("ignore", "watch_repeat", "follow_other")
    assert acts == (what not in INNOCENT) or what in ("74", "48")


def test_xids_are_given_in_turn_and_the_last_one_stands_for_the_rest() -> None:
    faults = [each for each in parse("xid,kill,xid,xid", "31,154:none") if isinstance(each, Xid)]
    assert [each.what for each in faults] == ["31", "154:none", "154:none"]
    assert [each.interrupts for each in faults] == [True, False, False]


def test_an_xid_that_the_lab_has_no_line_for_is_one_line() -> None:
    with pytest.raises(UsageError, match="option --xid: '999' is not allowed: 13, 31"):
        parse("xid", "999")
