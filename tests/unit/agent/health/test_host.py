"""The collector of the host: on trees, and on a real process that the kernel holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.agent.health.tree import put

from ryzen_agent.health.collectors.host import HostCollector
from ryzen_agent.health.model import Condition
from ryzen_agent.health.settings import HealthSettings

STAT = "7 (python) {state} 1 7 7 0 -1 4194304 77 0 0 0 0 0 0 0 20 0 1 0 123456 0 0 0\n"
STATUS = "voluntary_ctxt_switches:\t{count}\nnonvoluntary_ctxt_switches:\t0\n"
MOUNTS = "27 1 254:0 / / rw - ext4 /dev/vda {root}\n28 27 0:52 / /shared rw - nfs4 server:/home {nfs}\n"


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = 0.0
        self.settings = HealthSettings(proc=root / "proc", sys=root / "sys")
        self.collector = HostCollector(self.settings, now=lambda: self.now_s)
        put(root, {"proc/loadavg": "3.50 2.00 1.00 1/900 777\n"})
        self.mounts()

    def mounts(self, root: str = "rw", nfs: str = "rw") -> None:
        put(self.root, {"proc/self/mountinfo": MOUNTS.format(root=root, nfs=nfs)})

    def process(self, state: str, switches: int) -> None:
        self.settings.watched.put("job", [7])
        files = {"stat": STAT.format(state=state), "status": STATUS.format(count=switches), "wchan": "rpc_wait_bit"}
        put(self.root, {f"proc/7/{name}": text for name, text in files.items()})

    def memory(self, corrected: int, uncorrected: int) -> None:
        folder = "sys/devices/system/edac/mc/mc0"
        put(self.root, {f"{folder}/ce_count": f"{corrected}\n", f"{folder}/ue_count": f"{uncorrected}\n"})

    def after(self, seconds: float) -> tuple[Condition, ...]:
        self.now_s += seconds
        return self.collector.collect().conditions


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_rank_that_has_not_run_for_half_a_minute_in_the_kernel_is_said_with_where_it_waits(host: Host) -> None:
    host.process("D", 100)
    assert host.after(0) == ()
    assert host.after(29) == ()
    (waits,) = host.after(1)
    assert (waits.name, waits.device) == ("process.uninterruptible", "pid 7")
    assert "rpc_wait_bit" in waits.message


def test_a_rank_that_was_scheduled_between_two_looks_is_busy_not_stuck(host: Host) -> None:
    for look in range(10):
        host.process("D", 100 + look)
        assert host.after(10) == ()


def test_a_rank_in_any_other_state_and_one_that_is_over_are_not_stuck(host: Host) -> None:
    host.process("S", 100)
    host.after(0)
    assert host.after(60) == ()
    host.settings.watched.put("job", [8])
    assert host.after(60) == ()


def test_a_real_process_that_the_kernel_holds_is_found() -> None:
    """After vfork(2) the parent waits, uninterruptible, for what the child does."""
    script = "import ctypes, time; ctypes.PyDLL(None).vfork(); time.sleep(120)"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        now_s = 0.0
        settings = HealthSettings()
        settings.watched.put("job", [process.pid])
        collector = HostCollector(settings, now=lambda: now_s)
        deadline_s = time.monotonic() + 60
        while not is_held(process.pid):
            assert time.monotonic() < deadline_s, "vfork did not hold its caller"
            time.sleep(0.05)
        assert collector.collect().conditions == ()
        now_s = 30.0
        (waits,) = (each for each in collector.collect().conditions if each.name == "process.uninterruptible")
        assert waits.device == f"pid {process.pid}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_held(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D" and bool(
        Path(f"/proc/{pid}/task/{pid}/children").read_text()
    )


def test_a_hundred_corrected_errors_a_day_are_a_worn_module_and_what_was_counted_before_says_nothing(
    host: Host,
) -> None:
    host.memory(5000, 0)
    assert host.after(0) == ()
    host.memory(5100, 0)
    assert host.after(3600) == ()
    host.memory(5101, 0)
    (worn,) = host.after(3600)
    assert (worn.name, worn.device, worn.value) == ("memory.ecc_corrected", "mc0", 101)
    assert host.after(86400) == ()


def test_an_uncorrectable_error_stands_until_the_boot_after(host: Host) -> None:
    host.memory(0, 1)
    assert [each.name for each in host.after(0)] == ["memory.ecc_uncorrected"]
    assert [each.severity for each in host.after(86400)] == ["critical"]


def test_a_file_system_that_an_error_made_read_only_is_found_even_before_the_first_look(host: Host) -> None:
    host.mounts(root="ro,errors=remount-ro")
    (found,) = host.after(0)
    assert (found.name, found.device) == ("filesystem.read_only", "/")


def test_a_network_file_system_is_only_missed_where_it_was_writable(host: Host) -> None:
    host.mounts(nfs="ro")
    assert host.after(0) == (), "a person may have wanted it so"
    host.mounts()
    assert host.after(10) == ()
    host.mounts(nfs="ro")
    assert [each.device for each in host.after(10)] == ["/shared"]
    host.mounts()
    assert host.after(10) == ()


def test_this_very_node_can_be_looked_at() -> None:
    reading = HostCollector(HealthSettings()).collect()
    assert next(each.name for each in reading.samples) == "system.cpu.load_average.1m"
