"""Each question to a driver is contained, and one that has no answer here is not asked again."""

from __future__ import annotations

import pynvml
import pytest

from ryzen_agent.health.gpu.access import LOST, RESET_REQUIRED, UNKNOWN, Device, pci_address


class Driver:
    """Answers every question with one error, and counts them."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        raise pynvml.NVMLError(self.code)


@pytest.mark.parametrize("code", [2, 3, 4, 13, 25])
def test_what_a_gpu_or_a_driver_does_not_have_is_asked_for_once(code: int) -> None:
    device, driver = Device(0), Driver(code)
    assert [device.ask(driver, "power") for _ in range(3)] == [None] * 3
    assert driver.asked == 1
    assert device.grave == {}


@pytest.mark.parametrize("code", [10, 19, 27])
def test_what_fails_for_a_moment_is_asked_for_again(code: int) -> None:
    device, driver = Device(0), Driver(code)
    assert [device.ask(driver, "power") for _ in range(3)] == [None] * 3
    assert driver.asked == 3
    assert device.grave == {}


@pytest.mark.parametrize("code", [LOST, RESET_REQUIRED])
def test_a_gpu_that_is_lost_is_asked_nothing_more_in_this_look(code: int) -> None:
    device, driver = Device(0), Driver(code)
    device.ask(driver, "power")
    device.ask(driver, "energy")
    assert driver.asked == 1
    assert device.grave == {code: ["power"]}


def test_an_unknown_error_is_counted_by_question() -> None:
    device, driver = Device(0), Driver(UNKNOWN)
    device.ask(driver, "power")
    device.ask(driver, "energy")
    assert device.grave == {UNKNOWN: ["power", "energy"]}


def test_bindings_without_a_function_are_a_driver_without_it() -> None:
    device = Device(0)
    assert device.read("nvmlDeviceGetSomethingOfNextYear") is None
    assert device.grave == {}


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("00000000:05:00.0", "0000:05:00"),
        ("0000:C1:00.0", "0000:c1:00"),
        ("00010000:0A:1F.7", "10000:0a:1f"),
        ("x", "x"),
    ],
)
def test_an_address_is_written_as_the_kernel_log_writes_it(raw: str, address: str) -> None:
    assert pci_address(raw) == address
