"""What the driver says by itself, and a driver that says nothing any more."""

from __future__ import annotations

import time

import pytest

from ryzen_lab.mock_nvml import RECOVERY_ACTION_EVENT, UNAVAILABLE_EVENT, Faults

from .looker import SEEN_S, looking


def test_an_xid_is_told_with_its_gpu(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        reading = looker.look("gpu_events")
        assert reading.events == ()
        assert set(reading.devices) == {(faults.pci(index), faults.uuid(index)) for index in range(8)}
        asked = looker.ask("gpu_events")
        before = time.time()
        faults.xid(3, 79)
        event = looker.answer(asked).events[0]
    assert (event.kind, event.code, event.device, event.pci) == ("xid", 79, faults.uuid(3), faults.pci(3))
    assert before - 1 < event.at_unix_s < time.time() + 1


def test_xids_that_come_together_are_all_told_in_their_order(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        for xid in (63, 94, 31):
            faults.xid(1, xid)
        codes = [event.code for event in looker.look("gpu_events").events]
        while len(codes) < 3:
            codes += [event.code for event in looker.look("gpu_events").events]
    assert codes == [63, 94, 31]


def test_xids_from_before_the_agent_are_not_told(faults: Faults) -> None:
    faults.xid(3, 79)
    with looking(faults.folder) as looker:
        assert looker.look("gpu_events").events == ()


@pytest.mark.parametrize(("data", "action"), [(1, "reset_gpu"), (2, "reboot"), (0, "ignore")])
def test_a_recovery_action_that_the_driver_tells_is_an_xid_154_with_that_action(
    faults: Faults, data: int, action: str
) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.event(2, RECOVERY_ACTION_EVENT, data)
        event = looker.look("gpu_events").events[0]
    assert (event.kind, event.code, event.action, event.device) == ("xid", 154, action, faults.uuid(2))


def test_an_unavailable_gpu_is_an_event(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.event(2, UNAVAILABLE_EVENT, 0)
        event = looker.look("gpu_events").events[0]
    assert (event.kind, event.action) == ("gpu", "reset_gpu")


def test_a_hung_gpu_holds_its_collector_alone_and_is_read_again_when_it_answers(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        looker.look("gpu_events")
        looker.look("gpu_count")
        faults.gpu(5, hang=1)
        time.sleep(SEEN_S)
        held = looker.ask("gpu")
        with pytest.raises(TimeoutError):
            looker.answer(held, wait_s=0.5)
        faults.xid(5, 119)
        assert [each.code for each in looker.look("gpu_events").events] == [119]
        assert looker.look("gpu_count").conditions == ()
        faults.gpu(5, hang=0)
        assert looker.answer(held).conditions == ()


def test_a_gpu_that_hangs_from_the_start_costs_the_others_no_event(faults: Faults) -> None:
    faults.gpu(0, hang=1)
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.xid(6, 48)
        assert [each.code for each in looker.look("gpu_events").events] == [48]


def test_the_agent_ends_though_a_gpu_hangs(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        faults.gpu(5, hang=1)
        time.sleep(SEEN_S)
        looker.ask("gpu")
        looker.end()
