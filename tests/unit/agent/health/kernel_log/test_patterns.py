"""What a message of the kernel says: real lines with the fields that they must give, and lines that must give none.

`xid_samples.tsv` and `lines.tsv` hold lines of drivers, kernels and issue trackers; an empty field is "none".
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ryzen_agent.health.kernel_log import finder
from ryzen_agent.health.kernel_log.finding import Finding
from ryzen_agent.health.kernel_log.patterns import FAMILIES, gpu
from ryzen_agent.health.model import MESSAGE_CHARS

HERE = Path(__file__).parent
NOW_UNIX_S = 1795082400.0


def rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


INNOCENT = (HERE / "innocent.txt").read_text().splitlines()


def found(line: str) -> Finding | None:
    """As a log's reader would: first the search, then the patterns."""
    if not finder.may_matter(line.encode()):
        return None
    seen = finder.Finder().look(line.encode(), NOW_UNIX_S)
    return seen.finding if seen else None


@pytest.mark.parametrize("row", rows("lines.tsv"), ids=lambda row: row["line"][:60])
def test_a_line_gives_its_fields(row: dict[str, str]) -> None:
    finding = found(row["line"])
    assert finding is not None
    assert {
        "kind": finding.kind, "code": str(finding.code), "pci": finding.pci, "device": finding.device,
        "unit": finding.unit, "class": finding.fault_class, "action": finding.action, "pid": str(finding.pid or ""),
        "process": finding.process or "", "line": row["line"],
    } == row  # fmt: skip


@pytest.mark.parametrize("row", rows("xid_samples.tsv"), ids=lambda row: row["line"][:60])
def test_every_form_of_an_xid_gives_number_address_and_process(row: dict[str, str]) -> None:
    finding = found(row["line"])
    unknown = {"", "<unknown>"}
    assert finding is not None
    assert (finding.kind, finding.code, finding.pci) == ("xid", int(row["xid"]), row["pci"])
    assert finding.pid == (None if row["pid"] in unknown else int(row["pid"]))
    assert finding.process == (None if row["name"] in unknown else row["name"])


@pytest.mark.parametrize("line", INNOCENT)
def test_a_line_that_looks_alike_gives_nothing(line: str) -> None:
    assert found(line) is None


@pytest.mark.parametrize("example", [each for family in FAMILIES for each in family.examples])
def test_each_family_finds_its_examples_and_the_first_search_lets_them_pass(example: str) -> None:
    assert found(example) is not None


def test_the_cause_of_an_xid_45_is_kept() -> None:
    finding = found("NVRM: Xid (PCI:0000:01:00): 45, pid=9684, name=python, Ch 00000001 caused by previous Xid 31")
    assert finding is not None
    assert (finding.code, finding.caused_by) == (45, 31)


PROBE = (
    "NVRM: The NVIDIA GPU 0000:b3:00.0",
    "NVRM: (PCI ID: 10de:26b5) installed in this system has",
    "NVRM: fallen off the bus and is not responding to commands.",
)


def test_a_gpu_that_was_lost_before_the_driver_came_is_found_in_one_record() -> None:
    record = "3,812,5000000,-;" + r"\x0a".join(PROBE)
    finding = found(record)
    assert finding is not None
    assert (finding.code, finding.pci, finding.action) == (79, "0000:b3:00", "reboot")


@pytest.mark.parametrize("prefix", ["", "[   12.345678] ", "Nov 19 10:00:00 node-7 kernel: "])
def test_and_in_the_three_lines_that_other_tools_make_of_it(prefix: str) -> None:
    reader = finder.Finder()
    seen = [reader.look((prefix + line).encode(), NOW_UNIX_S) for line in PROBE]
    findings = [each.finding for each in seen if each is not None]
    assert findings[:2] == [None, None]
    assert findings[2] is not None
    assert (findings[2].code, findings[2].pci) == (79, "0000:b3:00")


def test_a_probed_gpu_that_is_merely_unsupported_is_not_lost() -> None:
    reader = finder.Finder()
    others = (
        "NVRM: is not supported by the NVIDIA 595.45.04 driver release.",
        "usb 1-1: new device",
        "usb 1-2: new device",
    )
    for line in (*PROBE[:1], *others, PROBE[2]):
        seen = reader.look(line.encode(), NOW_UNIX_S)
        assert seen is not None
        assert seen.finding is None


def test_all_words_for_one_lost_gpu_are_equal() -> None:
    said = {
        found("NVRM: Xid (PCI:0000:29:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        found("NVRM: GPU 0000:29:00.0: GPU has fallen off the bus."),
        found("\n".join(PROBE).replace("b3:", "29:")),
    }
    assert len(said) == 1


def test_the_driver_introduces_a_gpu_by_address_and_uuid() -> None:
    line = "NVRM: GPU at PCI:0000:9B:00: GPU-F1648D72-c7c8-9814-2832-7a062b009188"
    assert gpu.identity(line) == ("0000:9b:00", "GPU-f1648d72-c7c8-9814-2832-7a062b009188")
    assert gpu.identity(line[:-1]) is None
    assert gpu.identity("NVRM: GPU at PCI:0000:9b:00: has fallen off the bus") is None


@pytest.mark.parametrize("pid", ["0", "99999999999", "4194305", "-1", "٣"])
def test_a_pid_that_no_process_can_have_is_none(pid: str) -> None:
    finding = found(f"NVRM: Xid (PCI:0000:05:00): 13, pid={pid}, name=python3, x")
    assert finding is not None
    assert finding.pid is None


def test_a_message_is_one_bounded_printable_line() -> None:
    finding = found("NVRM: Xid (PCI:0000:05:00): 13, pid=7, name=a\x1b[31mb\tc, " + "\x07x\r" * 5000)
    assert finding is not None
    assert len(finding.message) <= MESSAGE_CHARS
    assert finding.message.isprintable()
    assert finding.process is not None
    assert finding.process.isprintable()
