"""Conditions go out when they are news to the stream, and at its begin; text from a kernel log is one tame line."""

from __future__ import annotations

from ryzen_agent.health import telling
from ryzen_agent.health.attribution import UNKNOWN, Owner
from ryzen_agent.health.model import MESSAGE_CHARS, Condition, Event
from ryzen_agent.health.telling import CONDITIONS_EVERY_S, ConditionNews
from ryzen_protos.v1 import node_pb2


def hot(value: float = 91.0, device: str = "GPU-1", action: str = "watch_repeat") -> node_pb2.HealthCondition:
    condition = Condition("gpu.hot", f"{value} C", device, action=action, value=value, limit=90.0)  # type: ignore[arg-type]
    return telling.health_condition(condition, Owner("job", (3,)), age_s=value)


def test_the_first_message_of_a_stream_has_all_even_none() -> None:
    assert ConditionNews().take([], 0.0) == node_pb2.Conditions()
    told = ConditionNews().take([hot()], 0.0)
    assert told is not None
    assert [(each.name, each.device, list(each.ranks), each.run_id) for each in told.all] == [
        ("gpu.hot", "GPU-1", [3], "job")
    ]


def test_what_stands_is_not_told_again_and_what_comes_or_goes_is() -> None:
    news = ConditionNews()
    news.take([], 0.0)
    assert news.take([], 100.0) is None
    assert news.take([hot()], 101.0) is not None
    assert news.take([hot()], 500.0) is None
    assert news.take([hot(), hot(device="GPU-2")], 501.0) is not None
    assert news.take([hot(), hot(device="GPU-2", action="reboot")], 502.0) is not None
    assert news.take([], 503.0) == node_pb2.Conditions()
    assert news.take([], 504.0) is None


def test_a_value_that_moves_is_told_now_and_then() -> None:
    news = ConditionNews()
    news.take([hot(91.0)], 0.0)
    assert news.take([hot(92.0)], 1.0) is None
    told = news.take([hot(93.0)], CONDITIONS_EVERY_S)
    assert told is not None
    assert told.all[0].value == 93.0


def test_a_users_own_jobs_are_named_and_those_of_others_are_not() -> None:
    (mine,) = telling.of_jobs([hot()], {"job"})
    assert (mine.run_id, list(mine.ranks)) == ("job", [3])
    (hidden,) = telling.of_jobs([hot()], set())
    assert (hidden.name, hidden.run_id, list(hidden.ranks)) == ("gpu.hot", "", [])


def test_a_line_of_the_kernel_log_cannot_move_the_cursor_of_a_terminal_or_fill_a_message() -> None:
    event = Event("other", "a\x1b[2J\nb" + "x" * 1000, 0.0, process="\x07sh")
    message = telling.health_event(event, UNKNOWN, ours=False)
    assert message.message.isprintable()
    assert len(message.message) == MESSAGE_CHARS
    assert message.process == " sh"
