"""`ryzen-agent scan-kmsg`, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOST = "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
FAULT = "NVRM: Xid (PCI:00000000:0A:00.0): 31, pid=123, name=python3, Ch 00000008, MMU Fault"


def scan(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ryzen_agent.cli", "scan-kmsg", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


def objects(log: bytes | str) -> list[dict[str, Any]]:
    ended = scan("-", "--json", stdin=log if isinstance(log, bytes) else log.encode())
    assert (ended.returncode, ended.stderr) == (0, b"")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_one_object_a_finding_from_every_form_of_log() -> None:
    log = f"[   12.500000] {LOST}\n6,99,13000000,-;{FAULT}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:0a:00.0\nall is well\n"
    first, second = objects(log)
    assert {key: first[key] for key in ("kind", "xid", "pci", "pid", "process", "class", "action", "time_s")} == {
        "kind": "xid", "xid": 79, "pci": "0000:05:00", "pid": None, "process": None, "class": "hw", "action": "reboot",
        "time_s": 12.5,
    }  # fmt: skip
    assert {key: second[key] for key in ("kind", "xid", "pci", "pid", "process", "class", "action", "time_s")} == {
        "kind": "xid", "xid": 31, "pci": "0000:0a:00", "pid": 123, "process": "python3", "class": "app",
        "action": "restart_app_then_repeat", "time_s": 13.0,
    }  # fmt: skip


def test_a_log_of_the_journal_has_unix_times_and_one_without_times_null() -> None:
    (dated,) = objects(f"2026-11-19T15:00:00+00:00 node-7 kernel: {LOST}\n")
    (bare,) = objects(LOST)
    assert (dated["time_s"], dated["clock"]) == (1795100400.0, "unix")
    assert (bare["time_s"], bare["clock"]) == (None, None)


def test_kinds_are_those_of_the_contract() -> None:
    crash = "a[7]: segfault at 0 ip 0 sp 0 error 4 in libnccl.so.2[7f7c7ac00000+d3d3000]"
    init = "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x65:1457)"
    hot = "mce: CPU3: Package temperature above threshold, cpu clock throttled (total events = 1)"
    switch = "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up"
    found = objects("\n".join((crash, init, hot, switch)))
    assert [each["kind"] for each in found] == ["other", "other", "other", "sxid"]
    assert found[3]["xid"] is None
    assert found[3]["code"] == 20034


def test_garbage_huge_lines_and_a_cut_end_are_passed_over() -> None:
    log = (
        os.urandom(1 << 20)
        + b"\n"
        + b"NVRM: Xid " * 200_000
        + b"\n\0\0\n"
        + LOST.encode()
        + b"\n"
        + FAULT[:30].encode()
    )
    assert [each["xid"] for each in objects(log)] == [79]


def test_for_people_it_is_a_table() -> None:
    ended = scan("-", stdin=f"[   12.500000] {LOST}\n[   13.0] all is well\n".encode())
    head, row, total = ended.stdout.decode().splitlines()
    assert head.split()[:4] == ["time", "kind", "code", "device"]
    assert row.split()[:4] == ["+12.500", "xid", "79", "0000:05:00"]
    assert total == "1 finding in 2 lines"


def test_a_file_is_read_and_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text(LOST)
    assert json.loads(scan(str(log), "--json").stdout)["xid"] == 79
    for wrong, said in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        ended = scan(str(wrong), "--json")
        assert (ended.returncode, ended.stdout) == (2, b"")
        (line,) = ended.stderr.decode().splitlines()
        assert str(wrong) in line
        assert said in line


def test_no_file_is_one_line() -> None:
    ended = scan()
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "ryzen_agent.cli", "scan-kmsg", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write((LOST + "\n").encode() * 500)
        process.stdin.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg cannot be read here")
def test_the_kernels_own_device_is_read_as_far_as_it_goes() -> None:
    ended = scan("/dev/kmsg")
    if b"not permitted" in ended.stderr:
        pytest.skip("kernel.dmesg_restrict keeps this user from /dev/kmsg")
    assert ended.returncode == 0
    assert ended.stdout.decode().splitlines()[-1].endswith("lines")
