"""From what the lab saw to the figures of a trial. Pure: a record in, plain values out.

    injection                                                                    recovered
        |-- detect --|-- blame --|                                                   |
                     |------- stop -------|- rendezvous -|- start -|- restore -|- first_step -|

- detect: until the first message about the fault has arrived from the coordinator's stream of incidents.
- blame: from there until a message carries a verdict that acts, else any verdict. It runs beside stop.
- stop: from when the fault was known until the last rank of the old world is dead.
- rendezvous: until the last rank of the new world has been exec'd. The kernel counts that in ticks of 10 ms.
- start: until the last of them has imported torch.
- restore: until the last of them has loaded an optimizer state (0 where none is loaded).
- first_step: until the first optimizer step of the new world.

`known_to_exec_s` is what the control path costs: from the moment the fault was known until the last new exec. It
was known with the first message; of a lost node, a hang and the like with the verdict: until then some ranks had
failed or were silent, no more.
Without a coordinator's word (stock c10d, bare torchrun) detection is the first death of a process that the fault
itself did not strike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ryzen_lab.record import TICK_S, Rank, Record, Service
from ryzen_protos.v1 import operator_pb2

ACTING = ("restart", "rollback", "evict", "stop")
"""Actions that interrupt training; the others are `none` and `advise`."""
_KNOWN_AT_ONCE = ("exit", "oom")
_NODE_RETURNS = ("node-kill", "node-stop")
STAGES = ("detect", "blame", "stop", "rendezvous", "start", "restore", "first_step")


@dataclass(frozen=True)
class Moments:
    """The moments of one recovery, in nanoseconds; None where it did not happen."""

    fault: int
    detected: int | None
    verdict: int | None
    stopped: int | None
    execed: int | None
    imported: int | None
    restored: int | None
    recovered: int | None
    known: int | None
    """The verdict; of an end that the kernel tells, the first message."""


def moments(record: Record) -> Moments | None:
    """Of the first fault; None where there was none."""
    if not record.injections:
        return None
    fault = record.injections[0].at_ns
    old = [each for each in record.ranks if _alive_at(each, fault)]
    firsts = [each.steps[0][0] for each in record.ranks if each.exec_ns > fault and each.steps]
    recovered = min(firsts, default=None)
    new = [each for each in record.ranks if each.exec_ns > fault and recovered and _alive_at(each, recovered)]
    told = _told(record, fault)
    decided = [(at, each) for at, each in told if each.verdict.fault_class]
    decided = [(at, each) for at, each in decided if each.verdict.action in ACTING] or decided
    verdict = decided[0][0] if decided else None
    at_once = not decided or decided[0][1].verdict.fault_class in _KNOWN_AT_ONCE
    detected = told[0][0] if told else _first_innocent_death(record, old, fault)
    deaths = [each.died_ns for each in old]
    return Moments(
        fault=fault,
        detected=detected,
        verdict=verdict,
        stopped=max((each for each in deaths if each), default=None) if recovered and all(deaths) else None,
        execed=max((each.exec_ns for each in new), default=None),
        imported=max((each.torch_ns for each in new if each.torch_ns), default=None),
        restored=max((each.restored_ns for each in new if each.restored_ns), default=None),
        recovered=recovered,
        known=detected if at_once else verdict,
    )


def has_recovered(record: Record) -> bool:
    """Whether a world that was started after the first fault has made a step."""
    at = moments(record)
    return at is not None and at.recovered is not None


def has_finished(record: Record) -> bool:
    """Whether every rank of some world has come to the end of the script."""
    finished = [each for each in record.ranks if each.finished]
    return bool(finished) and len({each.rank for each in finished}) >= finished[-1].world_size


def stages(at: Moments) -> dict[str, float | None]:
    """Seconds of each stage; None where a moment is missing. A stage that began before the one before it ended
    counts from that end."""
    stopped = _later(at.stopped, at.known)
    execed = _later(at.execed, stopped)
    imported = _later(at.imported, execed)
    restored = _later(at.restored, imported) if at.restored else imported
    return {
        "detect": _seconds(at.fault, at.detected),
        "blame": _seconds(at.detected, at.verdict),
        "stop": _seconds(at.known, stopped),
        "rendezvous": _seconds(stopped, execed),
        "start": _seconds(execed, imported),
        "restore": _seconds(imported, restored),
        "first_step": _seconds(restored, at.recovered),
    }


def since_fault(at: Moments) -> dict[str, float | None]:
    """Seconds from the fault to each moment of the recovery that can be seen whoever recovers; None: not seen."""
    return {name: _seconds(at.fault, getattr(at, name)) for name in ("stopped", "execed", "imported", "restored")}


def figures(record: Record) -> dict[str, Any]:
    """The measured part of a trial's result (lab contract), without what only the trial itself knows."""
    at = moments(record)
    told = _told(record, at.fault) if at else []
    incidents = [each for each in _last_words(told) if each.verdict.fault_class]
    named = (acting(incidents) or incidents)[:1]
    digest, agree = state_digest(record)
    return {
        "suspected_s": _seconds(at.fault, at.detected) if at else None,
        "detected_s": _seconds(at.fault, at.verdict or at.detected) if at else None,
        "verdict": _verdict(named[0]) if named else None,
        "incidents": [in_words(each) for each in incidents],
        "stages_s": stages(at) if at and at.recovered else {},
        "moments_s": since_fault(at) if at else {},
        "recovered_s": _seconds(at.fault, at.recovered) if at else None,
        "known_to_exec_s": _seconds(at.known, at.execed) if at else None,
        "steps_lost": steps_lost(record),
        "generations": generations(record),
        "evicted": evicted(record),
        "world": world(record),
        "false_actions": len(false_actions(record)) + len(false_verdicts(record)),
        "false_deaths": false_actions(record),
        "final_step": record.step(),
        "state_digest": digest,
        "ranks_agree": agree,
        "exec_resolution_s": TICK_S,
    }


def steps_lost(record: Record) -> int | None:
    """Optimizer steps done again, over all restarts of rank 0; None where a script's steps cannot be told."""
    lost = 0
    lives = [each for each in record.ranks if each.rank == 0 and each.steps]
    for life in sorted(lives, key=lambda each: each.steps[0][0])[1:]:
        began, first = life.steps[0]
        if life.step_source == "count":
            return None
        done = [number for each in record.ranks for at, number in each.steps if at < began]
        lost += max(0, max(done, default=0) - (first - 1))
    return lost


def generations(record: Record) -> int:
    """Worlds that were started, the first included: generations counted by Ryzen, else lives of rank 0."""
    numbers = {each.generation for each in record.ranks}
    if numbers and min(numbers) > 0:
        return max(numbers) - min(numbers) + 1
    return sum(each.rank == 0 for each in record.ranks)


def world(record: Record) -> list[str]:
    """Nodes of the last world that made a step, by group rank."""
    last: dict[int, Rank] = {}
    for each in sorted((each for each in record.ranks if each.steps), key=lambda each: each.exec_ns):
        last[each.rank] = each
    if not last:
        return []
    newest = max(each.steps[-1][0] for each in last.values())
    began = last[0].steps[0][0] if 0 in last else newest
    nodes = [last[number].node for number in sorted(last) if last[number].steps[-1][0] >= began]
    return list(dict.fromkeys(nodes))


def world_kept(record: Record) -> bool:
    """Every world that made a step had as many ranks as the first; else the final bits rightly differ."""
    return len({each.world_size for each in record.ranks if each.steps}) <= 1


def evicted(record: Record) -> list[str]:
    """Nodes of the world that the fault struck that are not in the last one."""
    if not record.injections:
        return []
    fault = record.injections[0].at_ns
    before = {each.node for each in record.ranks if _alive_at(each, fault)}
    return sorted(before - set(world(record)))


def false_actions(record: Record) -> list[str]:
    """Deaths of ranks, torchruns and agents that no fault struck, outside a recovery; in words."""
    windows = _recoveries(record)
    struck = {pid for each in record.injections for pid in each.pids}
    ended = min((each.died_ns for each in record.ranks if each.finished and each.died_ns), default=None)
    found = []
    processes: list[Rank | Service] = [*record.ranks, *record.services]
    for each in processes:
        if each.died_ns is None or each.pid in struck or _ordinary(each, ended):
            continue
        if not any(begin <= each.died_ns <= end for begin, end in windows):
            found.append(_describe(each))
    return found


def false_verdicts(record: Record) -> list[operator_pb2.Incident]:
    """Incidents in which the coordinator acted although nothing that was done needed it."""
    innocent = not any(each.interrupts for each in record.injections)
    return acting(last_messages(record)) if innocent else []


def acting(incidents: list[operator_pb2.Incident]) -> list[operator_pb2.Incident]:
    """Those whose verdict interrupts training."""
    return [each for each in incidents if each.verdict.action in ACTING]


def last_messages(record: Record) -> list[operator_pb2.Incident]:
    """The last word about each incident, in the order in which they were opened."""
    return _last_words(record.incidents)


def state_digest(record: Record) -> tuple[str | None, bool]:
    """Digest of the final parameters and whether all ranks hold the same. Sharded parameters: over all ranks."""
    final = {each.rank: each for each in record.ranks if each.finished and each.digest}
    ordered = [final[number] for number in sorted(final)]
    if not ordered:
        return None, True
    if any(each.sharded for each in ordered):
        joined = "".join(each.digest or "" for each in ordered)
        return hashlib.sha256(joined.encode()).hexdigest(), True
    return ordered[0].digest, len({each.digest for each in ordered}) == 1


def _alive_at(rank: Rank, at_ns: int) -> bool:
    return rank.exec_ns <= at_ns and (rank.died_ns is None or rank.died_ns >= at_ns)


def _told(record: Record, fault: int) -> list[tuple[int, operator_pb2.Incident]]:
    """Messages about incidents that were opened after the fault."""
    before = {each.id for at, each in record.incidents if at < fault}
    return [(at, each) for at, each in record.incidents if each.id not in before]


def _last_words(told: list[tuple[int, operator_pb2.Incident]]) -> list[operator_pb2.Incident]:
    last = {each.id: each for _at, each in told}
    return [each for _id, each in sorted(last.items())]


def _verdict(incident: operator_pb2.Incident) -> dict[str, Any]:
    verdict = incident.verdict
    return {
        "class": verdict.fault_class,
        "ranks": list(verdict.ranks),
        "nodes": list(verdict.nodes),
        "action": verdict.action,
    }


def in_words(incident: operator_pb2.Incident) -> dict[str, Any]:
    """An incident as the coordinator told it: not measured, for people who ask why."""
    return {
        **_verdict(incident),
        "reason": incident.verdict.reason,
        "confidence": incident.verdict.confidence,
        "evidence": list(incident.evidence),
        "timeline": list(incident.timeline),
        "stages_s": dict(incident.stages_s),
    }


def _first_innocent_death(record: Record, old: list[Rank], fault: int) -> int | None:
    struck = {pid for each in record.injections for pid in each.pids}
    deaths = [each.died_ns for each in old if each.pid not in struck and each.died_ns and not each.finished]
    return min((each for each in deaths if each >= fault), default=None)


def _recoveries(record: Record) -> list[tuple[int, int]]:
    """From each fault that must interrupt, and each return of a node, to the first step of a world after it."""
    begins = [each.at_ns for each in record.injections if each.interrupts]
    begins += [at for at, what, _node in record.returns if what in _NODE_RETURNS]
    return [(begin, _first_step_after(record, begin)) for begin in begins]


def _first_step_after(record: Record, begin: int) -> int:
    firsts = [each.steps[0][0] for each in record.ranks if each.exec_ns > begin and each.steps]
    return min(firsts, default=1 << 63)


def _ordinary(process: Rank | Service, ended: int | None) -> bool:
    """Died as it should: the script was through, or torchrun left with 0 afterwards, or the lab ended it."""
    if isinstance(process, Rank):
        return process.finished and process.exit_code in (0, None)
    after_end = ended is not None and process.died_ns is not None and process.died_ns >= ended
    return process.ended_by_lab or (process.what == "torchrun" and process.exit_code == 0 and after_end)


def _describe(process: Rank | Service) -> str:
    name = f"rank {process.rank}" if isinstance(process, Rank) else process.what
    return f"{name} of {process.node or 'the cluster'} (pid {process.pid}, exit code {process.exit_code})"


def _later(one: int | None, other: int | None) -> int | None:
    return max(one, other) if one is not None and other is not None else one


def _seconds(begin: int | None, end: int | None) -> float | None:
    return round(max(0, end - begin) / 1e9, 4) if begin is not None and end is not None else None
