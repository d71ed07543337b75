"""Collectors in threads of their own: what they say, what they cannot say, and one that never comes back."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ryzen_agent.health import runner
from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.model import Condition, Event, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.watch import HealthWatch
from ryzen_protos.settings import SettingsError
from ryzen_protos.v1 import node_pb2

PATIENCE_S = 20.0
LOST = Condition("gpu.lost", "it does not answer", "GPU-1", "critical", "reboot")


def in_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        asyncio.run(test(**fixtures))

    return run


class Scripted(Collector):
    """Does what the test puts on it next; waits for that for as long as it takes."""

    def __init__(self, name: str = "scripted", interval_s: float = 0.0, deadline_s: float = 60.0) -> None:
        self.name, self.interval_s, self.deadline_s = name, interval_s, deadline_s
        self.looks = 0
        self.closed = False
        self.hangs = False
        self._next: list[Callable[[], Reading]] = []
        self._given = threading.Condition()

    def give(self, *outcomes: Reading | Exception) -> None:
        def outcome(each: Reading | Exception) -> Reading:
            if isinstance(each, Exception):
                raise each
            return each

        with self._given:
            self._next += [lambda each=each: outcome(each) for each in outcomes]  # type: ignore[misc]
            self._given.notify_all()

    def collect(self) -> Reading:
        self.looks += 1
        with self._given:
            self._given.wait_for(lambda: bool(self._next) and not self.hangs)
            return self._next.pop(0)()

    def interrupt(self) -> None:
        if not self.hangs:
            self.give(Reading())

    def close(self) -> None:
        self.closed = True


class Spooled(list[tuple[str, node_pb2.HealthEvent]]):
    """What was kept."""

    def keep(self, run_id: str, event: node_pb2.HealthEvent, _unix_ns: int) -> None:
        self.append((run_id, event))


@asynccontextmanager
async def watching(*collectors: Collector) -> AsyncIterator[tuple[HealthWatch, Spooled, list[float]]]:
    spooled, changes = Spooled(), list[float]()
    watch = HealthWatch(
        HealthSettings(), [], spooled.keep, lambda: changes.append(time.monotonic()),
        [lambda _, each=each: each for each in collectors],  # type: ignore[misc]
    )  # fmt: skip
    watch.start()
    try:
        yield watch, spooled, changes
    finally:
        await watch.close()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():  # noqa: ASYNC110 - what another thread does wakes no event of this loop
            await asyncio.sleep(0.005)


def names(watch: HealthWatch, now_s: float | None = None) -> list[tuple[str, str]]:
    return [(each.name, each.device) for each in watch.conditions(time.monotonic() if now_s is None else now_s)]


@in_loop
async def test_an_event_is_kept_and_told_as_soon_as_the_collector_has_it() -> None:
    collector = Scripted()
    async with watching(collector) as (_, spooled, changes):
        collector.give(Reading(events=(Event("oom", "killed", time.time(), process="python3"),)))
        await until(lambda: bool(spooled))
        assert changes
        run_id, event = spooled[0]
        assert (run_id, event.kind, event.message, event.process) == ("", "oom", "killed", "python3")


@in_loop
async def test_a_condition_stands_until_its_collector_does_not_say_it_any_more() -> None:
    collector = Scripted()
    async with watching(collector) as (watch, _, changes):
        collector.give(Reading(conditions=(LOST,)))
        await until(lambda: names(watch) == [("gpu.lost", "GPU-1")])
        told = len(changes)
        began_s = time.monotonic()
        collector.give(Reading(conditions=(LOST,)))
        await until(lambda: collector.looks == 3)
        assert len(changes) == told, "what stands as before is no news"
        assert watch.conditions(began_s + 5)[0].age_s >= 5
        collector.give(Reading())
        await until(lambda: names(watch) == [])
        assert len(changes) > told


@in_loop
async def test_measured_values_alone_wait_for_the_next_look_of_the_agent() -> None:
    collector = Scripted()

    def warm(celsius: float, *conditions: Condition) -> Reading:
        return Reading(conditions, samples=(Sample("hw.temperature", celsius),))

    async with watching(collector) as (watch, _, _):
        collector.give(warm(40.0))
        await until(lambda: temperatures(watch) == [40.0])
        collector.give(warm(41.0))
        await until(lambda: collector.looks == 3)
        await asyncio.sleep(0)  # whatever the thread has left for this loop is done by now
        assert temperatures(watch) == [40.0], "nobody is woken for it"
        watch.look(time.monotonic())
        assert temperatures(watch) == [41.0]
        collector.give(warm(42.0), warm(43.0, LOST))
        await until(lambda: names(watch) == [("gpu.lost", "GPU-1")])
        assert temperatures(watch) == [43.0], "news takes along what has waited"


def temperatures(watch: HealthWatch) -> list[float]:
    return [each.value for each in watch.samples() if each.name == "hw.temperature"]


@in_loop
async def test_a_failed_look_is_said_once_and_counted_and_what_stood_stands(caplog: pytest.LogCaptureFixture) -> None:
    collector, other = Scripted("gpu"), Scripted("other")
    async with watching(collector, other) as (watch, _, _):
        collector.give(Reading(conditions=(LOST,), samples=(Sample("hw.temperature", 40.0),)))
        await until(lambda: names(watch) == [("gpu.lost", "GPU-1")])
        collector.give(OSError("the driver says no"))
        await until(lambda: watch.complaints() != [])
        assert watch.complaints() == ["collector gpu cannot look: OSError: the driver says no"]
        assert names(watch) == [("gpu.lost", "GPU-1")]
        samples = {(each.name, dict(each.attributes).get("ryzen.collector")): each.value for each in watch.samples()}
        assert samples["ryzen.collector.success", "gpu"] == 0.0
        assert ("hw.temperature", None) not in samples, "a measurement from before the failure is stale"
        other.give(Reading(conditions=(Condition("clock.offset", "late"),)))
        await until(lambda: ("clock.offset", "") in names(watch))
    assert caplog.text.count("the driver says no") == 1


@in_loop
async def test_the_same_failure_again_and_again_is_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FAILED_S", 0.0)
    collector = Scripted()
    collector.give(*[OSError("no")] * 5, ValueError("another"), Reading())
    async with watching(collector) as (watch, _, _):
        await until(lambda: collector.looks == 8)
        await until(lambda: watch.complaints() == [])
    assert caplog.text.count("cannot look") == 2


@in_loop
async def test_after_a_failure_there_is_a_pause_even_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FAILED_S", 0.2)
    collector = Scripted()
    collector.give(OSError("no"))
    began_s = time.monotonic()
    async with watching(collector):
        await until(lambda: collector.looks == 2)
        assert time.monotonic() - began_s >= 0.2


@in_loop
async def test_nothing_here_is_healthy_and_its_source_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SOURCES_S", 0.01)
    collector = Scripted()
    collector.sources = (tmp_path / "nvidiactl",)
    async with watching(collector) as (watch, _, _):
        collector.give(Reading(conditions=(LOST,)))
        await until(lambda: names(watch) != [])
        collector.give(NothingHereError("no driver"))
        await until(lambda: names(watch) == [])
        assert watch.complaints() == []
        assert [each.value for each in watch.samples() if each.name == "ryzen.collector.success"] == [1.0]
        await asyncio.sleep(0.1)
        assert collector.looks == 2, "it was asked again though nothing has appeared"
        (tmp_path / "nvidiactl").touch()
        await until(lambda: collector.looks == 3)


@in_loop
async def test_a_collector_that_hangs_is_a_condition_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    hung, well = Scripted("gpu", deadline_s=0.05), Scripted("host")
    hung.hangs = True
    async with watching(hung, well) as (watch, _, changes):
        await asyncio.sleep(0.1)
        watch.look(time.monotonic())
        assert names(watch) == [("collector.stalled", "gpu")]
        assert changes, "it is told at once"
        assert watch.complaints()[0].startswith("collector gpu has not answered for ")
        assert 0.0 in [each.value for each in watch.samples() if each.attributes == (("ryzen.collector", "gpu"),)]
        well.give(Reading(conditions=(LOST,)))
        await until(lambda: ("gpu.lost", "GPU-1") in names(watch))
        hung.hangs = False
        hung.give(Reading())
        await until(lambda: hung.looks == 2)
        watch.look(time.monotonic())
        assert names(watch) == [("gpu.lost", "GPU-1")]
        hung.deadline_s = 60.0
    assert caplog.text.count("has not answered for") == 1
    assert caplog.text.count("answers again") == 1


@in_loop
async def test_the_end_does_not_wait_for_a_collector_that_hangs() -> None:
    hung, well = Scripted("gpu"), Scripted("host")
    hung.hangs = True
    async with watching(hung, well):
        await until(lambda: well.looks == 1)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2.0
    assert well.closed
    hung.hangs = False
    hung.give(Reading())  # it comes back after the agent's end, to nobody


@in_loop
async def test_looks_are_an_interval_apart() -> None:
    collector = Scripted(interval_s=0.3)
    collector.give(Reading())
    began_s = time.monotonic()
    async with watching(collector):
        await until(lambda: collector.looks == 2)
        assert time.monotonic() - began_s >= 0.3


@in_loop
async def test_a_device_that_one_collector_knows_by_address_another_names() -> None:
    kernel, driver = Scripted("kmsg"), Scripted("gpu")
    async with watching(kernel, driver) as (watch, spooled, _):
        driver.give(Reading(devices=(("0000:05:00", "GPU-1"),)))
        await until(lambda: driver.looks == 2)
        kernel.give(
            Reading(
                conditions=(Condition("gpu.lost", "off the bus", "0000:05:00", pci="0000:05:00"),),
                events=(Event("xid", "off the bus", time.time(), 79, "0000:05:00", "0000:05:00"),),
            )
        )
        await until(lambda: bool(spooled))
        assert (spooled[0][1].device, spooled[0][1].pci) == ("GPU-1", "0000:05:00")
        assert names(watch) == [("gpu.lost", "GPU-1")]


@in_loop
async def test_an_unknown_collector_to_leave_out_is_one_line_with_those_there_are() -> None:
    settings = HealthSettings(without=("gqu",))
    with pytest.raises(SettingsError, match="'gqu' is not allowed: gpu, kmsg"):
        HealthWatch(settings, [], Spooled().keep, lambda: None, [lambda _: Scripted("gpu"), lambda _: Scripted("kmsg")])


@in_loop
async def test_a_collector_that_is_left_out_does_not_look() -> None:
    left_out, other = Scripted("gpu"), Scripted("kmsg")
    settings = HealthSettings(without=("gpu",))
    watch = HealthWatch(settings, [], Spooled().keep, lambda: None, [lambda _: left_out, lambda _: other])
    watch.start()
    await until(lambda: other.looks == 1)
    await watch.close()
    assert left_out.looks == 0
