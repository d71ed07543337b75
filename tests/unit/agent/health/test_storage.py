"""Room on file systems and the durable write: on real folders, and on real small file systems where root may mount."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.collectors.checkpoint import CheckpointCollector
from ryzen_agent.health.collectors.storage import StorageCollector
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.space import Space, broken_condition, read_space, space_conditions, used
from ryzen_agent.health.write_probe import WriteProbe

GIB = 1 << 30
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A real file system in memory."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def names(collector: CheckpointCollector | StorageCollector) -> list[str]:
    return [each.name for each in collector.collect().conditions]


@pytest.mark.parametrize(
    ("percent", "inodes", "left", "expected"),
    [
        (94.9, 3, GIB, []),
        (95.0, 3, GIB, ["storage.full"]),
        (20.0, 96, GIB, ["storage.full"]),
        (99.0, 3, GIB, ["storage.exhausted"]),
        (20.0, 100, GIB, ["storage.exhausted"]),
        (50.0, 3, 1 << 20, ["storage.exhausted"]),
    ],
)
def test_space_and_inodes_are_full_at_the_same_limits(
    percent: float, inodes: float, left: int, expected: list[str]
) -> None:
    said = space_conditions(Path("/data"), Space(1, percent, inodes, left))
    assert [each.name for each in said] == expected


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_used_is_a_percentage_whatever_a_file_system_counts(total: int, free: int, available: int) -> None:
    free = min(free, total)
    assert 0.0 <= used(total, free, min(available, free)) <= 100.0


def test_what_is_kept_for_root_is_not_there_for_users() -> None:
    assert used(100, 10, 5) == pytest.approx(100 * 90 / 95)


def test_a_folder_that_is_not_there_is_left_out_and_one_file_system_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    folders = (tmp_path / "nowhere", tmp_path, tmp_path / "second")
    reading = StorageCollector(HealthSettings(storage_folders=folders)).collect()
    assert [each.attributes for each in reading.samples] == [(("ryzen.folder", str(tmp_path)),)]


@ROOT_ONLY
def test_a_real_file_system_that_is_full_is_found(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=32m") as small:
        collector = StorageCollector(HealthSettings(storage_folders=(small,)))
        assert names(collector) == []
        (small / "file").write_bytes(bytes(20 << 20))
        assert names(collector) == ["storage.exhausted"]


@ROOT_ONLY
def test_a_real_file_system_without_inodes_is_found(tmp_path: Path) -> None:
    with mounted(tmp_path / "few", "size=64m,nr_inodes=20") as few:
        for at in range(19):
            (few / str(at)).touch()
        (full,) = StorageCollector(HealthSettings(storage_folders=(few,))).collect().conditions
        assert (full.name, "inodes" in full.message) == ("storage.exhausted", True)


def checkpoints(folder: Path | None, clock: Clock, **options: object) -> CheckpointCollector:
    return CheckpointCollector(HealthSettings(checkpoint_folder=folder), clock, **options)  # type: ignore[arg-type]


def test_no_folder_and_one_that_the_job_has_not_made_yet_are_nothing_here(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "later"):
        with pytest.raises(NothingHereError):
            checkpoints(folder, Clock()).collect()
    assert not (tmp_path / "later").exists()


def test_a_probe_leaves_nothing_behind_and_says_how_long_it_took(tmp_path: Path) -> None:
    samples = {each.name: each.value for each in checkpoints(tmp_path, Clock()).collect().samples}
    assert samples["ryzen.storage.probe.duration"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_folder_is_written_to_every_five_minutes_and_a_slow_one_at_each_look(tmp_path: Path) -> None:
    clock, took_s, probes = Clock(), 0.01, 0

    def probe() -> float:
        nonlocal probes
        probes += 1
        return took_s

    collector = checkpoints(tmp_path, clock, probe=probe)
    for _ in range(10):
        assert names(collector) == []
        clock.now_s += 60
    assert probes == 2
    took_s = 6.0
    assert [names(collector), names(collector)] == [["storage.slow"], ["storage.slow"]]
    assert probes == 4
    took_s = 0.01
    assert names(collector) == []


@ROOT_ONLY
def test_nothing_is_written_while_space_is_short(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=8m") as small:
        reading = checkpoints(small, Clock()).collect()
        assert [each.name for each in reading.conditions] == ["storage.exhausted"]
        assert [each.name for each in reading.samples] == ["system.filesystem.utilization"]


@ROOT_ONLY
def test_a_real_read_only_file_system_is_found(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "size=64m,ro") as read_only:
        assert names(checkpoints(read_only, Clock())) == ["storage.read_only"]


@ROOT_ONLY
def test_a_real_file_system_that_runs_out_of_inodes_for_the_probe_refuses_the_write(tmp_path: Path) -> None:
    with mounted(tmp_path / "few", "size=64m,nr_inodes=2") as few:
        (few / "one").touch()
        assert "storage.unwritable" in names(checkpoints(few, Clock()))


def test_a_folder_that_is_not_the_agents_to_write_in_is_no_fault_of_the_folder() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            (refused,) = checkpoints(folder, Clock()).collect().conditions
        finally:
            os.seteuid(user)
    assert (refused.name, refused.severity, refused.action) == ("storage.probe_refused", "info", "ignore")


def test_a_dead_server_and_a_bug_are_told_apart() -> None:
    assert broken_condition(Path("/shared"), OSError(116, "Stale file handle")).name == "storage.unwritable"
    with pytest.raises(OSError, match="Too many open files"):
        broken_condition(Path("/shared"), OSError(24, "Too many open files"))


def test_what_a_killed_agent_of_this_host_left_is_removed_and_nobody_elses(tmp_path: Path) -> None:
    old, fresh, other, named = (
        tmp_path / each
        for each in (".ryzen-probe-node-7-11", ".ryzen-probe-node-7-12", ".ryzen-probe-node-77-11", "model.pt")
    )
    for each in (old, fresh, other, named):
        each.write_bytes(b"x")
        os.utime(each, (1e9, 1e9))
    os.utime(fresh)
    WriteProbe(tmp_path, "node-7", 13).write()
    assert sorted(tmp_path.iterdir()) == sorted([fresh, other, named])


def test_a_file_of_a_former_process_with_this_pid_is_in_nobodys_way_and_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".ryzen-probe-node-7-13").symlink_to(victim)
    WriteProbe(tmp_path, "node-7", 13).write()
    assert victim.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [victim]


def test_space_of_this_very_folder_can_be_read(tmp_path: Path) -> None:
    space = read_space(tmp_path)
    assert 0 <= space.used_percent <= 100
    assert space.available_bytes > 0
