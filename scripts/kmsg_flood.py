"""What following the kernel's log costs: `python scripts/kmsg_flood.py [--seconds 10] [--lines-per-s 100000]`.

Prints Markdown for docs/benchmarks.md. Another process writes to a log, and the collector follows it as in the agent:

    latency   single lines into a silent file, from before the write to the reading that has its event
    silence   CPU of the collector while nothing is written
    floods    lines of other drivers; one Xid over and over; the same Xid with other numbers in each line; with one Xid
              of its own pid every tenth of a second among them, of which none may be missing
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from ryzen_agent.health.collectors.kernel_log import KernelLog
from ryzen_agent.health.kernel_log.bursts import WINDOW_S
from ryzen_agent.health.model import Event
from ryzen_agent.health.settings import HealthSettings

SINGLE_LINES = 200
SILENCE_S = 20.0
MARK_CODE = 31
PARTS = 100
"""Of a second, in which a flood is written."""

FLOODS: dict[str, Callable[[int], str]] = {
    "other lines": lambda at: (
        f"[{at / 1000:12.6f}] usb 1-1: new high-speed USB device number {at % 128} using xhci_hcd"
    ),
    "one Xid over and over": lambda at: (
        f"[{at / 1000:12.6f}] NVRM: Xid (PCI:0000:01:00): 95, pid=7062, Uncontained: LTC TAG (0x2, 0x1). RST: Yes"
    ),
    "one Xid, other numbers": lambda at: (
        f"[{at / 1000:12.6f}] NVRM: Xid (PCI:0000:01:00): 95, pid=7062, Uncontained: LTC TAG (0x{at:x}, 0x1). RST: Yes"
    ),
}


class Flood(NamedTuple):
    lines: int
    took_s: float
    read_s: float
    cpu_s: float
    rss_growth: int
    events: int
    counted: int
    marks: int
    marks_seen: int
    mark_ms: list[float]


def main() -> None:
    """Children are this file too: `--write KIND` writes a flood to standard output's file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--lines-per-s", type=int, default=100_000)
    parser.add_argument("--write", metavar="KIND", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        _write(FLOODS[given.write], given.seconds, given.lines_per_s)
        return
    begin = datetime.now().strftime("%Y-%m-%d")
    latencies_ms, silence = _alone()
    rows = [
        (kind, where, _flood(kind, where, given.seconds, given.lines_per_s))
        for kind in FLOODS
        for where in ("FIFO", "file")
    ]
    sys.stdout.write("\n".join(_report(begin, given, latencies_ms, silence, rows)) + "\n")


def _write(line: Callable[[int], str], seconds: float, lines_per_s: int) -> None:
    """Marks carry the time of their writing and a pid each. Lines are made beforehand: the writer must keep up."""
    part = lines_per_s // PARTS
    chunks = [("\n".join(line(number * part + at) for at in range(part)) + "\n").encode() for number in range(PARTS)]
    begin_s = time.monotonic()
    for number in range(round(seconds * PARTS)):
        time.sleep(max(0.0, begin_s + number / PARTS - time.monotonic()))
        text = chunks[number % PARTS]
        if number % (PARTS // 10) == 0:
            text += _xid("0000:02:00", number + 1, f"stamp {time.monotonic()}")
        while text:
            text = text[os.write(1, text) :]


def _xid(pci: str, pid: int, text: str) -> bytes:
    return f"NVRM: Xid (PCI:{pci}): {MARK_CODE}, pid={pid}, name=m, {text}\n".encode()


class _Reader:
    """The collector in a thread, and what it tells, with the time of the telling."""

    def __init__(self, path: Path, state: Path) -> None:
        self.collector = KernelLog(HealthSettings(kmsg_path=path, state_folder=state))
        self.told: list[tuple[float, Event]] = []
        self._ends = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        noted = state / "kernel_log.json"
        while not noted.exists():
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._ends:
            events = self.collector.collect().events
            now_s = time.monotonic()
            self.told += [(now_s, event) for event in events]
        self.collector.close()

    @property
    def cpu_s(self) -> float:
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident or 0))

    def end(self) -> None:
        self._ends = True
        self.collector.interrupt()
        self._thread.join()


def _alone() -> tuple[list[float], float]:
    """(milliseconds from write to reading, share of a core in silence)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        path.touch()
        reader, wrote = _Reader(path, Path(folder)), []
        with path.open("ab", buffering=0) as file:
            for number in range(SINGLE_LINES):
                time.sleep(0.013 + 0.001 * (number % 7))
                wrote.append(time.monotonic())
                file.write(_xid("0000:02:00", number + 1, "text"))
        while len(reader.told) < SINGLE_LINES:
            time.sleep(0.01)
        told = {event.pid: at_s for at_s, event in reader.told if event.count == 1}
        time.sleep(2 * WINDOW_S)  # until no burst is open
        before_s = reader.cpu_s
        time.sleep(SILENCE_S)
        share = (reader.cpu_s - before_s) / SILENCE_S
        reader.end()
    return [1000 * (told[number + 1] - at_s) for number, at_s in enumerate(wrote)], share


def _flood(kind: str, where: str, seconds: float, lines_per_s: int) -> Flood:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        os.mkfifo(path) if where == "FIFO" else path.touch()
        reader = _Reader(path, Path(folder))
        process = psutil.Process()
        rss, cpu_s, begin_s = process.memory_info().rss, reader.cpu_s, time.monotonic()
        rss_most = rss
        command = [
            sys.executable,
            __file__,
            "--write",
            kind,
            "--seconds",
            str(seconds),
            "--lines-per-s",
            str(lines_per_s),
        ]
        with (
            path.open("r+b" if where == "FIFO" else "ab", buffering=0) as out,
            subprocess.Popen(command, stdout=out) as writer,
        ):
            while writer.poll() is None:
                time.sleep(0.1)
                rss_most = max(rss_most, process.memory_info().rss)
            took_s = time.monotonic() - begin_s
            os.write(out.fileno(), _xid("0000:03:00", 1, "end"))
        read_s = next(_until_end(reader)) - begin_s
        cpu_s = reader.cpu_s - cpu_s
        while time.monotonic() < begin_s + read_s + WINDOW_S + 1:  # for the last window's counts
            time.sleep(0.1)
        reader.end()
    events = [event for _, event in reader.told]
    marks = {
        event.pid: 1000 * (at_s - float(event.message.rpartition(" ")[2]))
        for at_s, event in reader.told if event.pci == "0000:02:00"
    }  # fmt: skip
    return Flood(
        lines=int(seconds * lines_per_s),
        took_s=took_s,
        read_s=read_s,
        cpu_s=cpu_s,
        rss_growth=rss_most - rss,
        events=len(events),
        counted=sum(event.count for event in events if event.code == 95),
        marks=round(seconds * 10),
        marks_seen=len(marks),
        mark_ms=list(marks.values()),
    )


def _until_end(reader: _Reader) -> Iterator[float]:
    while True:
        yield from (at_s for at_s, event in reader.told if event.pci == "0000:03:00")
        time.sleep(0.05)


def _report(
    day: str, given: argparse.Namespace, latencies_ms: list[float], silence: float, rows: list[tuple[str, str, Flood]]
) -> Iterator[str]:
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    most = sorted(latencies_ms)
    yield f"`scripts/kmsg_flood.py` on {day}, {os.cpu_count()} CPUs, load average {load} at the end."
    yield f"{given.lines_per_s:,} lines a second for {given.seconds:.0f} s."
    yield ""
    yield (
        f"A line into a silent file is an event after {statistics.median(most):.1f} ms (median of {len(most)}; 99 %:"
        f" {most[int(0.99 * len(most))]:.1f}, most: {most[-1]:.1f}). In silence it takes {silence:.3%} of a core."
    )
    yield ""
    yield "| flood | into | read after | CPU | memory | events | lines counted | marks found | a mark's delay |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind, where, it in rows:
        counted = f"{it.counted:,} of {it.lines:,}" if it.counted else "-"
        yield (
            f"| {kind} | {where} | {it.read_s:.1f} s | {it.cpu_s:.1f} s, {it.cpu_s / it.read_s:.0%} of a core |"
            f" +{it.rss_growth / 1e6:.1f} MB | {it.events} | {counted} | {it.marks_seen} of {it.marks} |"
            f" {statistics.median(it.mark_ms):.0f} ms (most {max(it.mark_ms):.0f}) |"
        )


if __name__ == "__main__":
    main()
