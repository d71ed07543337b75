"""The collector on real files, FIFOs and the real device, in a thread as the runner has it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.collectors import COLLECTORS
from ryzen_agent.health.collectors.kernel_log import KernelLog
from ryzen_agent.health.kernel_log import bursts, place
from ryzen_agent.health.model import Event, Reading
from ryzen_agent.health.settings import HealthSettings

PATIENCE_S = 60.0
UUID = "GPU-f1648d72-c7c8-9814-2832-7a062b009188"
LOST = "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"


def xid(number: int, pci: str = "0000:05:00") -> str:
    return f"NVRM: Xid (PCI:{pci}): {number}, pid=7, name=python3, text\n"


def holds_by(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


class Following:
    """A collector in a thread; what it has said so far."""

    """With a state folder: the log is open when this returns, for then the place is noted for the first time."""

    def __init__(self, settings: HealthSettings) -> None:
        self.collector = KernelLog(settings)
        self.readings: list[Reading] = []
        self.error: BaseException | None = None
        self._news: queue.Queue[None] = queue.Queue()
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        if settings.state_folder is not None:
            noted = settings.state_folder / place.FILE
            holds_by(lambda: noted.exists() or self.error is not None)

    def _run(self) -> None:
        try:
            while not self._stop:
                self.readings.append(self.collector.collect())
                self._news.put(None)
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.error = error
        finally:
            self._news.put(None)
            self.collector.close()

    @property
    def events(self) -> list[Event]:
        return [event for reading in self.readings for event in reading.events]

    @property
    def codes(self) -> list[int]:
        return [event.code for event in self.events]

    def until(self, holds: Callable[[Following], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds(self):
            assert self.error is None, self.error
            self._news.get(timeout=max(0.1, deadline_s - time.monotonic()))

    def end(self) -> None:
        self._stop = True
        self.collector.interrupt()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def following(settings: HealthSettings) -> Iterator[Following]:
    follow = Following(settings)
    try:
        yield follow
    finally:
        follow.end()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "kern.log"
    path.touch()
    return path


@pytest.fixture
def settings(tmp_path: Path, log: Path) -> HealthSettings:
    state = tmp_path / "state"
    state.mkdir()
    return HealthSettings(kmsg_path=log, state_folder=state)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_is_among_the_collectors() -> None:
    assert KernelLog in COLLECTORS


def test_a_line_that_is_appended_becomes_an_event(settings: HealthSettings, log: Path) -> None:
    before = time.time()
    with following(settings) as follow:
        append(log, LOST)
        follow.until(lambda it: 79 in it.codes)
    (event,) = follow.events
    assert (event.kind, event.device, event.pci, event.action, event.count) == (
        "xid",
        "0000:05:00",
        "0000:05:00",
        "reboot",
        1,
    )
    assert before - 1 <= event.at_unix_s <= time.time()


def test_half_a_line_waits_for_its_other_half(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, LOST[:40])
        append(log, LOST[40:] + xid(13)[:5])
        follow.until(lambda it: 79 in it.codes)
        append(log, xid(13)[5:])
        follow.until(lambda it: 13 in it.codes)
    assert follow.codes == [79, 13]


def test_the_uuid_that_the_driver_has_printed_names_the_gpu(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, f"NVRM: GPU at PCI:0000:05:00: {UUID}\n" + LOST)
        follow.until(lambda it: 79 in it.codes)
    assert follow.events[0].device == UUID
    assert ("0000:05:00", UUID) in follow.readings[-1].devices


def test_a_restart_neither_tells_again_nor_misses(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, xid(13) + xid(31))
        follow.until(lambda it: {13, 31} <= set(it.codes))
        append(log, xid(8) + xid(62)[:20])
        follow.until(lambda it: 8 in it.codes)
    append(log, xid(62)[20:])
    with following(settings) as follow:
        append(log, xid(63))
        follow.until(lambda it: 63 in it.codes)
    assert follow.codes == [62, 63]


def test_a_killed_agent_tells_again_at_most_what_its_last_looks_had(settings: HealthSettings, log: Path) -> None:
    """What is kept is behind the lines whose events were taken, and no further."""
    with following(settings) as follow:
        append(log, xid(13))
        follow.until(lambda it: 13 in it.codes)
        append(log, xid(31))
        follow.until(lambda it: 31 in it.codes)
        noted = (settings.state_folder or Path()) / place.FILE
        kept_at = len(xid(13))
        holds_by(lambda: json.loads(noted.read_text())["offset"] >= kept_at)
        copy = noted.read_bytes()
    noted.write_bytes(copy)  # as a kill would have left it
    with following(settings) as follow:
        append(log, xid(62))
        follow.until(lambda it: 62 in it.codes)
    assert 13 not in follow.codes


def test_a_truncated_file_is_read_from_its_beginning(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, "all is well\n" * 100 + xid(13))
        follow.until(lambda it: 13 in it.codes)
        os.truncate(log, 0)
        append(log, xid(31))
        follow.until(lambda it: 31 in it.codes)
    assert follow.codes == [13, 31]


def test_a_renamed_file_is_read_to_its_end_and_then_the_new_one(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        with log.open("a") as old:
            log.rename(log.with_suffix(".1"))
            old.write(xid(13).rstrip())  # without its newline
        log.write_text(xid(31))
        follow.until(lambda it: {13, 31} <= set(it.codes))
        append(log, xid(62))
        follow.until(lambda it: 62 in it.codes)
    assert follow.codes == [13, 31, 62]


def test_a_first_start_looks_back_by_the_times_in_the_file(settings: HealthSettings, log: Path) -> None:
    def dated(seconds_ago: float, message: str) -> str:
        return f"{time.time() - seconds_ago:.6f} node-7 kernel: {message}"

    log.write_text(dated(4000, xid(8)) + dated(400, xid(11)) + dated(100, xid(13)) + xid(25) + dated(10, xid(31)))
    with following(settings) as follow:
        append(log, xid(62))
        follow.until(lambda it: 62 in it.codes)
    assert follow.codes == [13, 25, 31, 62]
    assert time.time() - 130 < follow.events[0].at_unix_s < time.time() - 90


def test_old_lines_without_a_time_are_not_told_as_news(settings: HealthSettings, log: Path) -> None:
    log.write_text(LOST * 5 + xid(13))
    with following(settings) as follow:
        append(log, xid(62))
        follow.until(lambda it: 62 in it.codes)
    assert follow.codes == [62]


def test_a_fifo_is_followed_through_writers_that_come_and_go(settings: HealthSettings, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with following(replace(settings, kmsg_path=fifo)) as follow:
        for code in (13, 31):
            fifo.write_text(xid(code))
            follow.until(lambda it, code=code: code in it.codes)  # type: ignore[misc]
    assert follow.codes == [13, 31]


def test_equal_lines_are_one_event_at_once_and_a_count_later(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, xid(95) * 1000 + xid(95, "0000:06:00"))
        follow.until(lambda it: sum(event.count for event in it.events) == 1001)
    assert len(follow.events) <= 6
    assert [event.pci for event in follow.events[:2]] == ["0000:05:00", "0000:06:00"]


def test_a_server_that_does_not_answer_is_a_condition_until_it_does(settings: HealthSettings, log: Path) -> None:
    with following(settings) as follow:
        append(log, "nfs: server 10.0.0.7 not responding, still trying\n")
        follow.until(lambda it: any(reading.conditions for reading in it.readings))
        (condition,) = follow.readings[-1].conditions
        assert (condition.name, condition.device) == ("nfs.not_responding", "10.0.0.7")
        append(log, "nfs: server 10.0.0.7 OK\n")
        follow.until(lambda it: not it.readings[-1].conditions)
        append(log, "nfs: server 10.0.0.7 not responding, still trying\n")  # folded as an event, standing all the same
        follow.until(lambda it: bool(it.readings[-1].conditions))


def test_interrupt_ends_a_look_at_a_silent_log(settings: HealthSettings) -> None:
    with following(settings) as follow:
        pass
    assert follow.error is None


def test_a_log_that_is_not_there_is_nothing_here_and_its_later_lines_are_news(
    settings: HealthSettings, log: Path
) -> None:
    log.unlink()
    collector = KernelLog(settings)
    with pytest.raises(NothingHereError, match=r"there is no .*kern\.log"):
        collector.collect()
    log.write_text(LOST)
    collector.interrupt()
    codes: list[int] = []
    while 79 not in codes:
        codes += [event.code for event in collector.collect().events]
    collector.close()


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_cannot_be_a_log_is_nothing_here(settings: HealthSettings, path: str) -> None:
    collector = KernelLog(replace(settings, kmsg_path=Path(path)))
    with pytest.raises(NothingHereError):
        collector.collect()
    collector.close()


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "setresuid"), reason="needs to give up root")
def test_a_log_that_is_not_permitted_is_a_failed_look_that_says_what_to_do(settings: HealthSettings, log: Path) -> None:
    if os.geteuid() == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(_not_permitted_as_nobody(settings, log))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        log.chmod(0)
        collector = KernelLog(settings)
        with pytest.raises(PermissionError, match=r"kern\.log: not permitted: run the agent as root"):
            collector.collect()


def _not_permitted_as_nobody(settings: HealthSettings, log: Path) -> int:
    try:
        log.chmod(0)
        os.setresuid(65534, 65534, 65534)
        KernelLog(settings).collect()
    except PermissionError as error:
        return 0 if "not permitted: run the agent as root" in str(error) else 2
    except BaseException:  # noqa: BLE001 - the child must not come back into pytest
        return 3
    return 4


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"path": 1}', '{"path": "x", "boot_id": "y", "seq": "z"}', "\0" * 100]
)
def test_a_damaged_note_of_the_place_is_as_none(settings: HealthSettings, log: Path, text: str) -> None:
    assert settings.state_folder is not None
    (settings.state_folder / place.FILE).write_text(text)
    assert place.load(settings.state_folder, log) is None


def test_a_note_of_another_log_is_as_none(settings: HealthSettings, log: Path) -> None:
    assert settings.state_folder is not None
    place.save(settings.state_folder, place.Place(str(log), "boot", offset=5))
    assert place.load(settings.state_folder, log) == place.Place(str(log), "boot", offset=5)
    assert place.load(settings.state_folder, log.with_suffix(".other")) is None


def kmsg_is_ours() -> str:
    """Why the real device cannot be used here; "" where it can."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return f"/dev/kmsg: {error.strerror}"
    return ""


def tell_kernel(message: str) -> None:
    """With a newline: the kernel keeps back a message that may still go on."""
    Path("/dev/kmsg").write_text(message + "\n")


def harmless() -> str:
    """A message that is told, means nothing, and in letters, so that no other is folded with it."""
    letters = str(time.monotonic_ns()).translate(str.maketrans("0123456789", "ghijklmnop"))
    return f"nvidia-peermem ryzen_test_{letters} ERROR written by a test, means nothing"


@pytest.mark.skipif(bool(kmsg_is_ours()), reason=kmsg_is_ours() or "-")
def test_on_the_real_device_a_line_is_told_once_also_over_a_restart(settings: HealthSettings) -> None:
    settings = replace(settings, kmsg_path=Path("/dev/kmsg"), kmsg_lookback_s=5.0)
    first, second = (harmless() for _ in range(2))

    def told(follow: Following, message: str) -> int:
        return sum(event.message == message for event in follow.events)

    with following(settings) as follow:
        tell_kernel(first)
        follow.until(lambda it: told(it, first) == 1)
    tell_kernel(second)
    with following(settings) as again:
        again.until(lambda it: told(it, second) == 1)
        assert told(again, first) == 0
    kept = json.loads(((settings.state_folder or Path()) / place.FILE).read_text())
    assert kept["seq"] > 0
    assert kept["boot_id"] == place.boot_id(Path("/proc"))


@pytest.mark.skipif(bool(kmsg_is_ours()), reason=kmsg_is_ours() or "-")
def test_on_the_real_device_the_first_start_looks_back_and_no_further(settings: HealthSettings) -> None:
    message = harmless()
    tell_kernel(message)
    settings = replace(settings, kmsg_path=Path("/dev/kmsg"), state_folder=None)
    with following(settings) as follow:
        follow.until(lambda it: any(event.message == message for event in it.events))
    with following(replace(settings, kmsg_lookback_s=-5.0)) as follow:
        later: list[str] = []
        while not any(
            event.message in later for event in follow.events
        ):  # it has come to the end, and what comes is new
            later.append(harmless())
            tell_kernel(later[-1])
            time.sleep(0.05)
    assert not any(event.message == message for event in follow.events)


def test_windows_are_shorter_than_the_patience_of_these_tests() -> None:
    assert 2 * bursts.WINDOW_S < PATIENCE_S
