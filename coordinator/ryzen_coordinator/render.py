"""Status, nodes and incidents for people: rich tables and a few plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ryzen_coordinator import render_ledger
from ryzen_coordinator.core.words import few
from ryzen_protos.v1 import operator_pb2 as pb

STAGES = ("detect", "blame", "stop", "rendezvous", "start", "restore", "first_step")

_SEVERITIES = {"critical": -2, "warning": -1}
_GOOD = {"running", "healthy", "finished", "closed"}
_BAD = {"given_up", "quarantined", "stalled", "suspect"}


def status(message: pb.ClusterStatus) -> RenderableType:
    """Jobs, nodes and how many incidents are open."""
    head = Text(f"ryzen {message.version}, up {duration(message.uptime_s)}, open incidents: {message.open_incidents}")
    return Group(head, jobs(message.jobs), nodes(message.nodes))


def jobs(messages: Iterable[pb.JobStatus]) -> RenderableType:
    """A row each, and below the table a line on how fast those that tell it train."""
    messages = list(messages)
    lines = [Text(f"{job.run_id}: {pace(job.pace)}", "dim") for job in messages if job.HasField("pace")]
    lines += [Text(f"{job.run_id}: {render_ledger.summary(job.time)}", "dim") for job in messages if job.time.wall_s]
    table = _job_table(messages)
    return Group(table, *lines) if lines else table


def _job_table(messages: Iterable[pb.JobStatus]) -> RenderableType:
    table = _table("job", "phase", "gen", "world", "parked", "step", "quiet / limit", "restarts", "note")
    for job in messages:
        step = str(job.step) if job.HasField("step") else "-"
        if job.HasField("checkpoint_step"):
            step += f" (saved {job.checkpoint_step})"
        quiet = f"{job.quiet_s:.1f} / {job.stall_after_s:.1f} s" if job.sends_progress else "-"
        world = f"{few(job.world) or '-'} ({len(job.world)} of {job.min_nodes}:{job.max_nodes})"
        restarts = f"{job.restarts} of {job.restart_budget}"
        phase = _phase(job.phase)
        if job.HasField("exit_code"):
            phase.append(f" ({job.exit_code})")
        parked = few(job.parked) or "-"
        table.add_row(job.run_id, phase, str(job.generation), world, parked, step, quiet, restarts, job.note)
    return table if table.row_count else Text("no job")


def pace(message: pb.JobPace) -> str:
    """One line: "4 ranks, step 0.212 s, 12400 tokens/s, MFU 34.1 %, waits for data 3 %, loss 2.31 (2.29 to 2.35)"."""
    words = [f"{message.ranks} ranks, step {message.step_s:.3g} s"]
    words += [f"{message.tokens_per_s:.0f} tokens/s"] if message.tokens_per_s else []
    words += [f"{message.samples_per_s:.1f} samples/s"] if message.samples_per_s else []
    words += [f"MFU {message.mfu:.1%}"] if message.HasField("mfu") else []
    words += [f"HFU {message.hfu:.1%}"] if message.HasField("hfu") and message.hfu > message.mfu else []
    if "data" in message.section_share:
        words.append(f"waits for data {message.section_share['data']:.1%}")
    if message.HasField("communication_share"):
        p50_ms, p99_ms = message.all_reduce_p50_s * 1000, message.all_reduce_p99_s * 1000
        words.append(
            f"communication {message.communication_share:.0%} (all-reduce p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms)"
        )
    if message.HasField("loss"):
        loss = message.loss
        least, median, most = (
            f"{getattr(loss, name):.4g}" if loss.HasField(name) else "none" for name in ("least", "median", "most")
        )
        words.append(f"loss {median} ({least} rank {loss.least_rank} to {most} rank {loss.most_rank})")
        if loss.not_finite:
            words.append(f"no finite loss on {_numbers(loss.not_finite)}")
    words += [f"learning rate {message.learning_rate:.3g}"] if message.HasField("learning_rate") else []
    words += message.data_advice
    return ", ".join(words)


def nodes(messages: Iterable[pb.NodeStatus]) -> RenderableType:
    table = _table("node", "phase", "connected", "last word", "host", "address", "jobs", "clock", "reason", "health")
    for node in messages:
        connected = Text("yes", "green") if node.connected else Text("no", "red")
        clock = f"{node.clock_offset_s * 1000:+.0f} ms"
        last = f"{node.silent_s:.1f} s ago"
        where = (node.host, node.address, ", ".join(node.jobs) or "-")
        table.add_row(node.node, _phase(node.phase), connected, last, *where, clock, node.reason, _health(node))
    return table if table.row_count else Text("no node")


def _health(node: pb.NodeStatus) -> Text:
    """What stands, a line each; of what was said the newest alone."""
    lines = Text()
    for each in sorted(node.conditions, key=lambda each: _SEVERITIES.get(each.severity, 0)):
        where = f" ({each.device})" if each.device else ""
        style = {"critical": "red", "warning": "yellow"}.get(each.severity, "")
        lines.append(f"{each.name}{where}: {each.message}{' (pardoned)' if each.pardoned else ''}\n", style)
    if node.faults:
        more = f" (and {len(node.faults) - 1} more within 24 h)" if len(node.faults) > 1 else ""
        lines.append(f"{node.faults[-1]}{more}\n", "dim")
    lines.rstrip()
    return lines


def incidents(messages: Iterable[pb.Incident]) -> RenderableType:
    """Two lines each: what was decided, and below it why. A column for the reason would leave it ten letters."""
    blocks: list[RenderableType] = []
    for incident in messages:
        verdict = incident.verdict
        head = Text(f"{incident.id:>4}  ")
        head.append(time.strftime("%m-%d %H:%M:%S  ", time.localtime(incident.opened_unix_s)))
        head.append_text(_phase(incident.state))
        head.append(f"  {verdict.fault_class or '?'}", "bold")
        head.append(f": {who(verdict)} → {verdict.action or '-'}, {total_s(incident):.2f} s")
        if incident.new_generation:
            head.append(f", generation {incident.generation} → {incident.new_generation}")
        blocks += [head, Padding(Text(f"{incident.run_id}: {verdict.reason or 'no verdict yet'}", "dim"), (0, 0, 0, 6))]
    return Group(*blocks) if blocks else Text("no incident")


def incident(message: pb.Incident) -> RenderableType:
    """One incident whole: verdict, advice, evidence, where the ranks were, what else it might have been, timeline."""
    verdict = message.verdict
    lines = [
        f"incident {message.id} of {message.run_id}, {message.state}, generation {message.generation}"
        + (f" → {message.new_generation}" if message.new_generation else ""),
        f"{verdict.fault_class or 'no verdict yet'}: {who(verdict)} → {verdict.action or '-'} "
        f"({verdict.confidence or '-'}): {verdict.reason}",
    ]
    if message.HasField("step"):
        resumed = f", resumed at {message.resumed_step}" if message.HasField("resumed_step") else ""
        lines.append(f"struck at step {message.step}{resumed}")
    if message.HasField("resume_at_most"):
        lines.append(f"checkpoints above step {message.resume_at_most} are tainted")
    if verdict.advice:
        lines.append(f"advice: {verdict.advice}")
    stages = _table(*(name.replace("_", " ") for name in STAGES))
    stages.add_row(*(f"{message.stages_s[name]:.3f} s" if name in message.stages_s else "-" for name in STAGES))
    blocks: list[RenderableType] = [
        Text("\n".join([*lines, "evidence", *(f"  · {line}" for line in message.evidence)]))
    ]
    if message.ranks:
        blocks += [Text("where the ranks were"), Padding(_moments(message.ranks), (0, 0, 0, 2))]
    for stack in message.stacks:
        frames = "\n".join(f"    {line}" for line in stack.text.splitlines())
        blocks.append(Text(f"{len(stack.ranks)} × {_numbers(stack.ranks)}\n{frames}"))
    if message.considered:
        blocks.append(Text("\n".join(["also considered", *(f"  · {line}" for line in message.considered)])))
    blocks.append(Text("\n".join(["timeline", *(f"  {line}" for line in message.timeline)])))
    return Group(*blocks, stages)


def _moments(messages: Iterable[pb.RankMoment]) -> Table:
    table = _table("rank", "node", "step", "section", "quiet", "process", "in collective")
    for each in messages:
        step = str(each.step) if each.step >= 0 else "-"
        quiet = f"{each.quiet_s:.2f} s"
        table.add_row(str(each.rank), each.node, step, each.section or "-", quiet, each.state, each.collective or "-")
    return table


def _numbers(ranks: Sequence[int]) -> str:
    """0, 1, 2, 5 as "rank 0-2, 5"."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return "rank " + ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def total_s(message: pb.Incident) -> float:
    """From the fault to the first new step, in seconds. Blame runs beside the teardown and is no part of the sum."""
    return sum(seconds for stage, seconds in message.stages_s.items() if stage != "blame")


def who(verdict: pb.Verdict) -> str:
    ranks = f"rank {few(verdict.ranks)}" if verdict.ranks else ""
    nodes_named = few(verdict.nodes)
    return f"{ranks} on {nodes_named}" if ranks and nodes_named else ranks or nodes_named or "nobody"


def duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02d} min" if hours else f"{minute} min {second:02d} s" if minute else f"{second} s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _phase(phase: str) -> Text:
    return Text(phase, "green" if phase in _GOOD else "red" if phase in _BAD else "yellow")
