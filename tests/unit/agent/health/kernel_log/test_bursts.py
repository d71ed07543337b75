"""Repeats become counts, and nothing that differs is swallowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.kernel_log.bursts import OPEN_MAX, WINDOW_S, Bursts
from ryzen_agent.health.kernel_log.finder import Finder
from ryzen_agent.health.kernel_log.pace import CREDIT_S, SHARE, Pace
from ryzen_agent.health.kernel_log.sameness import Sameness
from ryzen_agent.health.model import Event


def event(message: str = "Xid 95: LTC TAG (0x2, 0x1)", at_unix_s: float = 100.0, **fields: object) -> Event:
    return Event(
        **{"kind": "xid", "code": 95, "pci": "0000:01:00", "message": message, "at_unix_s": at_unix_s} | fields
    )  # type: ignore[arg-type]


def test_the_first_is_told_at_once_and_its_repeats_once_a_window() -> None:
    bursts = Bursts()
    assert bursts.add(event(), 0.0)[1] == event()
    for at in range(1, 1000):
        assert bursts.add(event(f"Xid 95: LTC TAG (0x{at}, 0x1)", 100.0 + at / 1000), at / 1000)[1] is None
    assert bursts.due(WINDOW_S - 0.01) == []
    (summary,) = bursts.due(WINDOW_S)
    assert (summary.count, summary.at_unix_s) == (999, 100.999)
    bursts.add(event(), WINDOW_S + 1)
    assert [each.count for each in bursts.due(2 * WINDOW_S)] == [1]


def test_after_a_window_without_a_repeat_the_next_is_told_at_once_again() -> None:
    bursts = Bursts()
    bursts.add(event(), 0.0)
    assert bursts.due(WINDOW_S) == []
    assert bursts.next_due_s == float("inf")
    assert bursts.add(event(), WINDOW_S)[1] is not None


def test_another_device_unit_process_or_wording_is_another_event() -> None:
    others = (
        event(), event(pci="0000:02:00"), event(unit="link 1"), event(unit="link 2"), event(pid=7), event(code=94),
        event("Xid 95: something else"), event(action="reboot"),
    )  # fmt: skip
    bursts = Bursts()
    assert [bursts.add(each, 0.0)[1] for each in others] == list(others)


def test_a_recovery_between_two_equal_demands_comes_out_between_them() -> None:
    bursts = Bursts()
    needed, none = (
        event("recovery action to (Reset)", action="reset_gpu"),
        event("recovery action to (None)", action="ignore"),
    )
    for at, each in enumerate((needed, none, needed, none)):
        bursts.add(Event(**{**_fields(each), "at_unix_s": 100.0 + at}), float(at))
    assert [each.action for each in bursts.due(2 * WINDOW_S)] == ["reset_gpu", "ignore"]


def _fields(each: Event) -> dict[str, object]:
    return {name: getattr(each, name) for name in each.__slots__}


def test_the_two_lines_of_one_oom_kill_are_one_event() -> None:
    bursts = Bursts()
    first = event("oom-kill:constraint=", kind="oom", code=0, pci="", unit="memory cgroup", pid=7)
    second = event("Killed process 7 (python3)", kind="oom", code=0, pci="", pid=7)
    assert bursts.add(first, 0.0)[1] == first
    assert bursts.add(second, 0.0)[1] is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(0, 20)), max_size=60))
def test_every_line_is_in_exactly_one_event(lines: list[tuple[int, int, float]]) -> None:
    bursts, told = Bursts(), []
    for pid, code, at_s in sorted(lines, key=lambda line: line[2]):
        told += bursts.due(at_s)
        first = bursts.add(event(pid=pid, code=code, at_unix_s=at_s), at_s)[1]
        told += [first] if first is not None else []
    told += bursts.due(1000.0)
    assert sum(each.count for each in told) == len(lines)


def test_memory_is_bounded_however_many_kinds_come_and_no_line_goes_uncounted() -> None:
    bursts, told = Bursts(), []
    total = 50_000
    for at in range(total):
        first = bursts.add(
            event(f"word{'x' * (at % 97)}", pid=at, unit=str(at), pci=f"{at:04x}:00:00", code=at % 5000), 0.0
        )[1]
        told += [first] if first is not None else []
    assert len(told) <= 4 * OPEN_MAX
    told += bursts.due(WINDOW_S)
    assert sum(each.count for each in told) == total


def test_reading_takes_its_share_of_a_core_and_no_more_in_the_long_run() -> None:
    now_s, used_s = 0.0, 0.0
    pace = Pace(now_s)
    while now_s < 100:
        now_s += pace.rest_s() + 0.02
        used_s += 0.02
        pace.spent(0.02, now_s)
    assert used_s <= 100 * SHARE + CREDIT_S + 0.1
    assert used_s >= 100 * SHARE


def test_after_a_quiet_while_there_is_no_rest_at_first() -> None:
    pace = Pace(0.0)
    pace.spent(CREDIT_S, 1000.0)
    assert pace.rest_s() == 0.0
    pace.spent(0.1, 1000.0)
    assert pace.rest_s() > 0.0


TEXT = "NVRM: Xid (PCI:0000:01:00): {code}, pid={pid}, name=python3, Uncontained: LTC TAG (0x{tag}, 0x1)."
NUMBERED = st.builds(
    lambda stamp, code, pid, tag, tail: f"{stamp}{TEXT.format(code=code, pid=pid, tag=tag)}{tail}".encode(),
    st.sampled_from(["", "[    1.5] ", "[   22.75] ", "3,1,2,-;", "3,44,55,-;"]),
    st.sampled_from([95, 94, 13, 74, 149, 154, 45]), st.sampled_from([7, 8]), st.sampled_from(["1", "2", "ab", "ff"]),
    st.sampled_from([
        "", " on link 3", " on link 4", " (GPC 1, TPC 2, SM 0)", " (GPC 1, TPC 3, SM 0)", " changed",
        " on link 3(0x1, 0x0, 0x0, 0x0)", " on link 3(0x2, 0x0, 0x0, 0x0)", " x Fatal y", " caused by previous Xid 13",
        " fatal(0x1, 0x0, 0x0, 0x0)", " fatal(0x2, 0x0, 0x0, 0x0)",
        " GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
        " GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
    ]),
)  # fmt: skip


@given(st.lists(NUMBERED, max_size=40))
def test_a_line_that_is_not_read_again_is_counted_where_reading_it_would_have(lines: list[bytes]) -> None:
    sameness, bursts, finder = Sameness(), Bursts(), Finder()
    for line in lines:
        known = sameness.burst(line)
        seen = finder.look(line, 0.0)
        assert seen is not None
        finding = seen.finding
        assert finding is not None
        key, _ = bursts.add(
            event(finding.message, code=finding.code, unit=finding.unit, pid=finding.pid, action=finding.action), 0.0
        )
        assert known in (None, key)
        sameness.learn(finding, key)


def test_most_of_a_flood_with_other_numbers_in_each_line_is_not_read() -> None:
    sameness, finder, known = Sameness(), Finder(), 0
    for at in range(1000):
        line = f"[{at}.5] {TEXT.format(code=95, pid=7, tag=f'{at:x}')}".encode()
        if sameness.burst(line) is not None:
            known += 1
            continue
        seen = finder.look(line, 0.0)
        assert seen is not None
        assert seen.finding is not None
        sameness.learn(seen.finding, "burst")
    assert known > 990
