"""What ranks say of their own arithmetic is told once, when it changes, and now and then again."""

from __future__ import annotations

from ryzen_agent.job import Job
from ryzen_agent.self_checks import AGAIN_EVERY_S, SelfCheckNews
from ryzen_protos import beat_self_checks
from ryzen_protos.beat_page import BeatWriter
from ryzen_protos.beat_self_checks import KNOWN_ANSWER, REPLAY, SelfCheck
from ryzen_protos.v1 import node_pb2


def told(news: SelfCheckNews, job: Job, at_s: float) -> list[node_pb2.SelfChecks]:
    job.scan(at_s, thorough=True)
    return news.take([job], at_s).get(job, [])


def test_ranks_that_stand_alike_are_one_message_and_told_when_that_changes(job: Job, pages: list[BeatWriter]) -> None:
    news = SelfCheckNews()
    assert told(news, job, 0.0) == []
    for page in pages:
        page.put(*beat_self_checks.pack(SelfCheck(REPLAY, agreed=8)))
    pages[1].put(*beat_self_checks.pack(SelfCheck(KNOWN_ANSWER, agreed=1, digest=(1 << 64) - 1, key=7)))
    found = told(news, job, 1.0)
    assert {(each.kind, tuple(each.rows), each.agreed) for each in found} == {
        (REPLAY, (0, 1, 2), 8), (KNOWN_ANSWER, (1,), 1)
    }  # fmt: skip
    assert {each.digest for each in found if each.kind == KNOWN_ANSWER} == {(1 << 64) - 1}
    assert told(news, job, 2.0) == []
    pages[2].put(*beat_self_checks.pack(SelfCheck(REPLAY, agreed=9, differed=1, clean=30, step=40)))
    found = told(news, job, 3.0)
    assert {(tuple(each.rows), each.differed, each.clean_step, each.step) for each in found} >= {((2,), 1, 30, 40)}


def test_they_are_told_again_after_a_while_and_to_each_new_stream(job: Job, pages: list[BeatWriter]) -> None:
    news = SelfCheckNews()
    pages[0].put(*beat_self_checks.pack(SelfCheck(REPLAY, agreed=8)))
    assert told(news, job, 0.0)
    assert not told(news, job, AGAIN_EVERY_S / 2)
    assert told(news, job, AGAIN_EVERY_S)
    assert told(SelfCheckNews(), job, AGAIN_EVERY_S)


def test_a_difference_is_news_at_once(job: Job, pages: list[BeatWriter]) -> None:
    pages[0].put(*beat_self_checks.pack(SelfCheck(REPLAY, agreed=8)))
    job.scan(1.0, thorough=True)
    assert not job.scan(2.0, thorough=True)
    pages[0].put(*beat_self_checks.pack(SelfCheck(REPLAY, agreed=8, differed=1)))
    assert job.scan(3.0, thorough=True)
    assert not job.scan(4.0, thorough=True)
