"""Rules that take their time: heat over minutes, against peers, and how long a thing must stand before it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ryzen_agent.health.gpu.panel import Panel
from ryzen_agent.health.gpu.reading import HARDWARE_THERMAL, Fabric, GpuReading, Identity
from ryzen_agent.health.gpu.rules import KINDS
from ryzen_agent.health.model import Condition

EVERY_S = 10.0


def identity(index: int, model: str = "H100") -> Identity:
    return Identity(index, f"GPU-{index}", f"0000:{index:02x}:00", model, 92.0, 89.0, 87.0, 95.0)


def node(
    at_s: float, temperatures: Iterable[float], utilization: float | None = 1.0, model: str = "H100"
) -> list[GpuReading]:
    return [
        GpuReading(identity(index, model), at_s, temperature_c=each, utilization=utilization)
        for index, each in enumerate(temperatures)
    ]


def over(
    looks: int, make: Callable[[float], list[GpuReading]], panel: Panel | None = None, since_s: float = 0.0
) -> list[tuple[Condition, ...]]:
    panel = panel or Panel()
    return [panel.judge(make(since_s + each * EVERY_S)) for each in range(looks)]


def test_every_condition_says_when_it_holds_and_where_that_comes_from() -> None:
    for kind in KINDS:
        assert kind.name.startswith("gpu."), kind
        assert kind.when, kind
        assert len(kind.source) > 10, kind
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_the_documentation_has_every_condition_as_the_code_has_it() -> None:
    document = (Path(__file__).resolve().parents[5] / "docs/health.md").read_text()
    section = document.partition("\n## GPUs\n")[2].partition("\n## ")[0]
    documented = [line for line in section.splitlines() if line.startswith("| `gpu.")]
    assert documented == [kind.row() for kind in KINDS]


def test_one_gpu_that_is_hotter_than_its_busy_peers_for_a_minute_is_said() -> None:
    said = over(6, lambda at_s: node(at_s, [60, 61, 62, 80, 60, 61, 62, 63]))
    assert said[4] == ()
    assert [(each.name, each.device, each.value) for each in said[5]] == [("gpu.hot", "GPU-3", 80)]
    assert said[5][0].limit == 61 + 12
    assert "61 °C" in said[5][0].message


def test_a_busy_gpu_among_idle_ones_is_not_hot() -> None:
    def make(at_s: float) -> list[GpuReading]:
        found = node(at_s, [40, 41, 42, 75, 40, 41, 42, 43], utilization=0.0)
        found[3].utilization = 1.0
        return found

    assert over(10, make)[-1] == ()


def test_gpus_of_another_model_are_no_peers() -> None:
    def make(at_s: float) -> list[GpuReading]:
        return [
            *node(at_s, [60, 61, 62, 60, 61]),
            GpuReading(identity(7, "L4"), at_s, temperature_c=84, utilization=1.0),
        ]

    assert over(10, make)[-1] == ()


def test_a_node_that_is_warm_as_a_whole_has_no_gpu_that_stands_out() -> None:
    assert over(10, lambda at_s: node(at_s, [81, 82, 83, 84, 82, 81, 83, 84]))[-1] == ()


def test_one_look_above_the_maximum_is_not_said() -> None:
    panel = Panel()
    assert panel.judge(node(0.0, [90])) == ()
    assert [each.name for each in panel.judge(node(10.0, [90]))] == ["gpu.hot"]
    assert panel.judge(node(20.0, [80])) == ()


def test_a_gpu_that_climbs_towards_its_slowdown_is_said_before_it_throttles() -> None:
    said = over(40, lambda at_s: node(at_s, [74 + at_s / 60 * 2]))
    first = next(at for at, each in enumerate(said) if each)
    assert [each.name for each in said[first]] == ["gpu.heating"]
    assert 74 + first * EVERY_S / 60 * 2 < 85
    assert said[first][0].limit == 89.0
    assert (said[first][0].value or 0) >= 89.0, "what it would be in five minutes"


def test_without_a_limit_the_margin_says_where_it_is() -> None:
    def make(at_s: float) -> list[GpuReading]:
        degrees = 74 + at_s / 60 * 2
        bare = Identity(0, "GPU-0", model="H100")
        return [GpuReading(bare, at_s, temperature_c=degrees, margin_c=88 - degrees)]

    said = over(40, make)
    assert [each.name for each in said[25]] == ["gpu.heating"]
    assert over(20, lambda at_s: [GpuReading(Identity(0, "GPU-0"), at_s, temperature_c=80, margin_c=-3)])[-1] == ()


def throttling(at_s: float, times: set[float]) -> list[GpuReading]:
    return [GpuReading(identity(0), at_s, temperature_c=70, reasons=HARDWARE_THERMAL if at_s in times else 0)]


def test_a_moment_of_throttling_is_not_said_and_six_in_ten_minutes_are() -> None:
    assert set(over(60, lambda at_s: throttling(at_s, {50.0}))) == {()}
    scattered = {50.0, 150.0, 250.0, 350.0, 450.0, 550.0}
    said = over(57, lambda at_s: throttling(at_s, scattered))
    assert said[54] == ()
    assert [each.name for each in said[55]] == ["gpu.throttled"]
    assert "70 °C" in said[55][0].message
    assert "hardware thermal" in said[55][0].message


def test_throttling_that_has_ended_is_forgotten_after_its_window() -> None:
    said = over(70, lambda at_s: throttling(at_s, {0.0, 10.0}))
    assert said[1]
    assert said[2] == (), "not at two looks in a row any more"


def test_registration_with_the_fabric_may_take_a_minute() -> None:
    said = over(6, lambda at_s: [GpuReading(identity(0), at_s, fabric=Fabric(2, 0, 0))])
    assert said[4] == ()
    assert [(each.name, each.severity) for each in said[5]] == [("gpu.fabric", "warning")]


def test_a_counter_that_was_reset_has_not_shrunk() -> None:
    panel = Panel()
    for at, count in enumerate((5, 5, 1)):
        found = panel.judge([GpuReading(identity(0), at * EVERY_S, link_errors={"replay": count})])
    assert [each.name for each in found] == ["gpu.nvlink_errors"]
    for at in range(3, 80):
        found = panel.judge([GpuReading(identity(0), at * EVERY_S, link_errors={"replay": 1})])
    assert found == (), "nothing new for ten minutes"


def test_what_is_remembered_of_a_gpu_is_bounded() -> None:
    panel = Panel()
    over(500, lambda at_s: node(at_s, [60]), panel)
    assert all(len(each.looks) <= 70 for each in panel._histories.values())
