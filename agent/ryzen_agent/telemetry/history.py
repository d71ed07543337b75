"""What happens on the node, as events, and how often it has happened, as counters.

An event of a fault belongs to the trace of its incident, which the coordinator opens a moment later: it is held until
the incident's trace is known, for `HOLD_S` at most. It is known by the announcement of a generation above the one
that was struck.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ryzen_protos.v1 import node_pb2
from ryzen_telemetry.records import EventRecord, Sample, Trace, Value

HOLD_S = 3.0
"""Lower: an event misses the trace of an incident that was slow to open; higher: it leaves late where there is none."""
SERIES_MAX = 1000
"""Of one counter. A kernel log may name anything; no bound of memory may depend on it."""

TraceOf = Callable[[str, int], "Trace | None"]
"""Of the incident that has struck a generation of a job, once it is announced."""


@dataclass(frozen=True, slots=True)
class _Held:
    until_s: float
    generation: int
    record: EventRecord


class History:
    """`emit`: where events go; `trace_of`: see `TraceOf`; `user_of`: whose a job is, "" where that is not known."""

    def __init__(self, emit: Callable[[EventRecord], None], trace_of: TraceOf, user_of: Callable[[str], str]) -> None:
        self._emit, self._trace_of, self._user_of = emit, trace_of, user_of
        self._held: list[_Held] = []
        self._counts: Counter[tuple[str, tuple[tuple[str, Value], ...]]] = Counter()

    def happened(self, kind: str, run_id: str, fields: dict[str, str], generation: int) -> None:
        """An event of the spool. `generation`: the newest of the job here."""
        job: dict[str, Value] = {"ryzen.job": run_id, "ryzen.user": self._user_of(run_id)} if run_id else {}
        if kind == "rank_exit":
            self._rank_exit(job, fields)
        elif kind == "kill":
            self._count("ryzen.rank.kill", job)
            attributes = {**job, **_numbers(fields, rank="ryzen.rank", pid="process.pid")}
            attributes["ryzen.reason"] = fields["reason"]
            self._hold("ryzen.rank.kill", f"rank {fields['rank']} killed: {fields['reason']}", attributes, generation)
        elif kind == "torchrun_exit":
            attributes = {**job, **_numbers(fields, pid="process.pid", exit_code="process.exit.code")}
            words = f"torchrun has ended with exit code {fields['exit_code'] or 'unknown'}"
            severity = "info" if fields["exit_code"] == "0" else "warning"
            self._hold("ryzen.torchrun.exit", words, attributes, generation, severity)

    def health(self, run_id: str, event: node_pb2.HealthEvent, unix_ns: int, generation: int) -> None:
        """Something that kernel log or driver said. `unix_ns`: when."""
        attributes: dict[str, Value] = {
            "ryzen.event.kind": event.kind,
            "ryzen.fault.class": event.fault_class,
            "ryzen.action": event.action,
        }
        if run_id:
            attributes["ryzen.job"] = run_id
        if event.ranks:
            attributes["ryzen.ranks"] = ",".join(map(str, event.ranks))
        if event.HasField("pid"):
            attributes["process.pid"] = event.pid
        self._count("ryzen.health.event", {"ryzen.event.kind": event.kind}, event.count or 1)
        if event.kind in {"xid", "sxid"}:
            labels: dict[str, Value] = {
                "hw.id": event.device, "ryzen.xid": int(event.code), "ryzen.fault.class": event.fault_class,
            }  # fmt: skip
            self._count("ryzen.gpu.xid", labels, event.count or 1)
            name, attributes = "ryzen.gpu.xid", {**attributes, **labels, "ryzen.gpu.pci": event.pci}
        else:
            name, attributes["ryzen.device"] = "ryzen.health.event", event.device
        self._hold(name, event.message, attributes, generation, "warning", unix_ns / 1e9)

    def release(self, now_s: float) -> None:
        """Let go of what has found its trace, or has waited long enough."""
        held, self._held = self._held, []
        for each in held:
            trace = self._trace_of(str(each.record.attributes.get("ryzen.job", "")), each.generation)
            if trace is not None or now_s >= each.until_s:
                self._emit(replace(each.record, trace=trace))
            else:
                self._held.append(each)

    def flush(self) -> None:
        """The end: nothing waits any more."""
        self.release(float("inf"))

    def samples(self) -> Iterator[Sample]:
        return (Sample(name, float(count), labels) for (name, labels), count in self._counts.items())

    # ------------------------------------------------------------- inside

    def _rank_exit(self, job: dict[str, Value], fields: dict[str, str]) -> None:
        why = _ending(fields)
        self._count("ryzen.rank.exit", {**job, "ryzen.reason": why})
        named = {"rank": "ryzen.rank", "generation": "ryzen.generation", "pid": "process.pid"}
        attributes = {**job, **_numbers(fields, **named, exit_code="process.exit.code"), "ryzen.reason": why}
        error = fields.get("error", "")
        if error:
            attributes["error.type"] = error.partition(":")[0]
        words = f"rank {fields['rank']} has ended: {error or why}"
        severity = "info" if why in {"done", "killed by the agent"} else "error"
        self._hold("ryzen.rank.exit", words, attributes, int(fields["generation"]), severity)

    def _hold(
        self, name: str, body: str, attributes: dict[str, Value], generation: int, severity: str = "info",
        at_unix_s: float | None = None,
    ) -> None:  # fmt: skip
        record = EventRecord(name, time.time() if at_unix_s is None else at_unix_s, body, attributes, severity)
        self._held.append(_Held(time.monotonic() + HOLD_S, generation, record))
        if len(self._held) > SERIES_MAX:
            self._emit(self._held.pop(0).record)

    def _count(self, name: str, labels: dict[str, Value], by: int = 1) -> None:
        key = (name, tuple(labels.items()))
        if key in self._counts or len(self._counts) < SERIES_MAX:
            self._counts[key] += by


def _ending(fields: dict[str, str]) -> str:
    if fields.get("oom_killed"):
        return "out of memory"
    if fields["killed_by_agent"] == "true":
        return "killed by the agent"
    code = fields["exit_code"]
    if code.startswith("-"):
        return f"signal {code[1:]}"
    return "done" if code == "0" else f"exit code {code or 'unknown'}"


def _numbers(fields: dict[str, str], **names: str) -> dict[str, Value]:
    return {name: int(fields[field]) for field, name in names.items() if fields.get(field)}
