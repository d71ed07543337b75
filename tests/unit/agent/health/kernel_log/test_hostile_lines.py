"""Nothing that can stand in a log may raise, give unbounded fields, or take more time than its length accounts for."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.kernel_log import finder
from ryzen_agent.health.kernel_log.lines import Lines
from ryzen_agent.health.kernel_log.patterns import FAMILIES
from ryzen_agent.health.kernel_log.records import LINE_BYTES
from ryzen_agent.health.model import MESSAGE_CHARS

ROOT = Path(__file__).resolve().parents[5]
EXAMPLES = [each for family in FAMILIES for each in family.examples]
PREFIXES = ("", "3,1,2,-;", "[  1.2] ", "[Thu Nov 19 10:00:00 2026] ", "Nov 19 10:00:00 h kernel: ", '{"MESSAGE": "')

mangled = st.builds(
    lambda prefix, line, at, cut, junk: prefix.encode() + line.encode()[: at % 200] + junk + line.encode()[cut % 200 :],
    st.sampled_from(PREFIXES), st.sampled_from(EXAMPLES), st.integers(0, 199), st.integers(0, 199),
    st.binary(max_size=60),
)  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=400), mangled), max_size=8))
def test_no_line_raises_and_every_field_is_bounded(lines: list[bytes]) -> None:
    reader = finder.Finder()
    for line in lines:
        seen = reader.look(line, 1.8e9)
        if seen is None or seen.finding is None:
            continue
        finding = seen.finding
        assert len(finding.message) <= MESSAGE_CHARS
        assert len(finding.pci) <= 14
        assert max(len(finding.device), len(finding.unit), len(finding.process or "")) <= MESSAGE_CHARS
        texts = (finding.message, finding.device, finding.unit, finding.pci, finding.process or "")
        assert all(each.isprintable() for each in texts)
        assert finding.pid is None or 0 < finding.pid <= 2**22
        assert 0 <= finding.code < 100_000


@given(st.lists(st.binary(max_size=50)), st.data())
def test_lines_are_the_same_however_a_stream_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    splitter, lines = Lines(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        lines += splitter.feed(stream[start:end])
    rest = splitter.pending
    lines += splitter.end()
    expected = stream.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])
    assert rest == len(expected[-1])


def test_of_a_line_without_an_end_only_a_records_length_is_kept() -> None:
    splitter, chunk = Lines(), b"x" * 65536
    tracemalloc.start()
    for _ in range(100):
        assert splitter.feed(chunk) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * len(chunk)
    (line,) = splitter.feed(b"\n")
    assert line == b"x" * LINE_BYTES


PATHOLOGICAL = {
    "commas": "NVRM: Xid (PCI:0000:05:00): 79, " + "," * 65536,
    "spaces": "NVRM: Xid (PCI:0000:05:00): 79" + " " * 65536,
    "names": "NVRM: Xid (PCI:0000:05:00): 79, " + "pid=1, name=" * 5461,
    "tasks": "oom-kill:constraint=CONSTRAINT_NONE," + ",task=" * 10922,
    "pids": "oom-kill:constraint=CONSTRAINT_NONE,task=" + ",pid=1" * 10922,
    "tasks hung": "INFO: task " + "a:1 blocked for more " * 3120,
    "gpcs": "NVRM: Xid (PCI:0000:05:00): 13, " + "(GPC 1, TPC " * 5461,
    "registers": "NVRM: Xid (PCI:0000:05:00): 74, on link 1(" + "0x0, " * 13107,
    "probe": "NVRM: The NVIDIA GPU 0000:b3:00.0\n" + "\n NVRM: " * 8192,
    "cables": "mlx5_core 0000:5c:00.0: " + "limited by " * 5957,
    "brackets": "[" * 65536,
    "blanks": " " * 65536 + "x",
    "json": '{"MESSAGE": ' + "[" * 65536,
    "segfault": "a[1]: segfault at " + "in libnccl" * 6553,
    "nvme": "nvme nvme0: I/O " + "timeou" * 10922,
    "hex": "3,1,2,-;NVRM: " + r"\x0a" * 16384,
    "oom": "a invoked oom-killer" * 3276,
    "journal": "Nov 19 10:00:00 " + "h " * 32768,
}


def seconds(line: bytes) -> float:
    """The best of a few: what the line costs, whoever else uses the machine."""
    best = float("inf")
    for _ in range(5):
        reader, begin = finder.Finder(), time.thread_time()
        finder.may_matter(line)
        reader.look(line, 1.8e9)
        best = min(best, time.thread_time() - begin)
    return best


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_a_line_made_to_be_slow_costs_like_any_other_of_its_length(name: str) -> None:
    line = PATHOLOGICAL[name].encode()
    benign = b"usb 1-1: new device, all is well; " * 1928
    assert seconds(line) < 20 * seconds(benign) + 0.001


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_and_so_do_the_patterns_alone_when_the_bound_on_a_message_is_off(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear: eight times the length costs about eight times as much, where a quadratic pattern would take 64 times."""
    monkeypatch.setattr(finder, "MESSAGE_CHARS_READ", 1 << 20)
    line = PATHOLOGICAL[name]

    def cost(length: int) -> float:
        best = float("inf")
        for _ in range(5):
            begin = time.thread_time()
            finder.find(line[:length])
            best = min(best, time.thread_time() - begin)
        return best

    assert cost(65536) < 24 * cost(8192) + 0.002


def test_guided_fuzzing_finds_no_line_that_raises(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (it has wheels for few Pythons)")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fuzz_kmsg.py"), "-runs=20000", "-seed=1", "-max_len=512"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
