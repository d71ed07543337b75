"""The moments of a recovery are told by what can be seen from outside."""

import pytest

from ryzen_lab.faults import parse
from ryzen_lab.moments import MOMENTS, newcomers, victims
from ryzen_lab.record import Injection, Rank, Record
from ryzen_protos.v1 import operator_pb2


def rank(number: int, generation: int, at_ns: int, **more: object) -> Rank:
    made = Rank(
        pid=generation * 10 + number, node=f"node-{number}", rank=number, local_rank=0, generation=generation,
        world_size=2, exec_ns=at_ns,
    )  # fmt: skip
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def struck() -> Record:
    """Two ranks on two nodes; rank 1 was killed at 100."""
    record = Record(ranks=[rank(0, 1, 10), rank(1, 1, 10, died_ns=100)])
    record.injections.append(Injection("kill", 100, 5, interrupts=True, rank=1, pids=[11]))
    return record


def now(record: Record) -> list[str]:
    return [name for name, come in MOMENTS.items() if come(record)]


def test_nothing_has_come_before_a_fault(struck: Record) -> None:
    struck.injections.clear()
    struck.incidents = [(50, operator_pb2.Incident(id=1, new_generation=2))]
    assert now(struck) == []


def test_a_generation_is_announced_until_its_first_rank_is_born(struck: Record) -> None:
    assert now(struck) == []
    struck.incidents = [(110, operator_pb2.Incident(id=1)), (111, operator_pb2.Incident(id=1, new_generation=2))]
    assert now(struck) == ["announced"]
    struck.ranks.append(rank(0, 2, 120))
    assert now(struck) == ["rendezvous"]


def test_ranks_restore_when_all_are_born_and_one_has_done_its_imports(struck: Record) -> None:
    struck.ranks += [rank(0, 2, 120, torch_ns=150)]
    assert "restoring" not in now(struck)
    struck.ranks += [rank(1, 2, 121)]
    assert "restoring" in now(struck)


def test_a_job_is_ending_while_one_node_has_ended_well_and_another_lives() -> None:
    record = Record(ranks=[rank(0, 1, 10), rank(1, 1, 10)])
    assert now(record) == []
    record.ranks[0].died_ns = 200
    assert now(record) == [], "it has not ended well"
    record.ranks[0].finished = True
    assert now(record) == ["ending"]
    record.ranks[1].died_ns, record.ranks[1].finished = 201, True
    assert now(record) == []


def test_at_the_rendezvous_a_new_rank_is_struck_and_else_any_that_lives(struck: Record) -> None:
    assert [each.pid for each in victims(struck, "announced")] == [10]
    struck.ranks.append(rank(1, 2, 120))
    assert [each.pid for each in newcomers(struck)] == [21]
    assert [each.pid for each in victims(struck, "rendezvous")] == [21]


def test_a_later_fault_knows_its_moment() -> None:
    faults = parse("kill, agent-kill@announced")
    assert [(each.kind, each.moment) for each in faults] == [("kill", ""), ("agent-kill", "announced")]
