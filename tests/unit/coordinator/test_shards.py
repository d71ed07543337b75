"""Ranks that read the same first batch are named once, and the rank that has more to do than the others."""

from __future__ import annotations

from ryzen_coordinator.core import shards
from ryzen_coordinator.core.effects import Say
from ryzen_coordinator.core.events import BatchesSeen, PaceSeen, Shape
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Cluster, Job


def job(generation: int = 1) -> Job:
    return Job("me", "job", Shape(), 0.0, generation=generation, table=ProgressTable(generation, ["a", "b"]))


def cluster() -> Cluster:
    return Cluster(CoreSettings(), 0.0, 0.0)


def told(
    ranks: tuple[int, ...], batches: tuple[int, ...], places: tuple[int, ...] = (), generation: int = 1
) -> BatchesSeen:
    return BatchesSeen(generation, ranks, batches, places or (0,) * len(ranks))


def test_ranks_of_two_nodes_that_read_the_same_batch_are_named_once() -> None:
    here, subject = cluster(), job()
    for _ in range(3):
        shards.note(here, subject, told((0, 1, 2), (11, 12, 13)))
        shards.note(here, subject, told((3, 4), (14, 13)))
    assert list(shards.words(subject)) == ["ranks 2 and 4 read the same first batch"]
    said = [each for each in here.effects if isinstance(each, Say)]
    assert len(said) == 1


def test_ranks_of_one_data_parallel_number_read_the_same_rightly() -> None:
    subject = job()
    shards.note(cluster(), subject, told((0, 1, 2, 3), (11, 11, 12, 11), (1, 1, 2, 2)))
    assert list(shards.words(subject)) == ["ranks 0 and 3 read the same first batch"]


def test_what_an_older_generation_read_counts_no_more() -> None:
    here, subject = cluster(), job()
    shards.note(here, subject, told((0, 1), (11, 11)))
    subject.table = ProgressTable(2, ["a", "b"])
    assert list(shards.words(subject)) == []
    shards.note(here, subject, told((0, 1), (11, 12), generation=2))
    assert list(shards.words(subject)) == []


def test_the_rank_that_has_more_to_do_than_the_others_is_named() -> None:
    even = PaceSeen(1, (0, 1), 1.0, step_work=(100.0, 105.0))
    assert list(shards.uneven([even])) == []
    more = PaceSeen(1, (2, 3), 1.0, step_work=(0.0, 150.0))
    assert list(shards.uneven([even, more])) == ["rank 3 has 1.43 times the median's work in a step"]
