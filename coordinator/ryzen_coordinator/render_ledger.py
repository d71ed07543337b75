"""The ledger as tables for people and as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ryzen_coordinator.core.book import STATES
from ryzen_protos.v1 import operator_pb2 as pb

_HOUR_S = 3600.0


def jobs(message: pb.Ledger) -> RenderableType:
    """A row each."""
    table = _table("job", "phase", "GPUs", "wall", "ETTR")
    for job in message.jobs:
        ettr = _ettr(job.time)
        table.add_row(job.run_id, job.phase, str(job.gpus), _hours(job.time.wall_s), ettr, *_cells(job.time))
    return table if table.row_count else Text("no job")


def job(message: pb.JobLedger) -> RenderableType:
    """One job whole: its states, its incidents, its nodes."""
    head = Text(f"{message.run_id}, {message.phase}: {summary(message.time)}")
    shares = _table("")
    spent_s = sum(message.time.gpu_s.values())
    shares.add_row("GPU-hours", *_cells(message.time))
    if spent_s:
        shares.add_row("share", *(f"{message.time.gpu_s.get(state, 0.0) / spent_s:.1%}" for state in STATES))
    blocks: list[RenderableType] = [head, shares]
    if message.incidents:
        table = _table("incident", "at", "what", "whom")
        for each in message.incidents:
            at = time.strftime("%m-%d %H:%M:%S", time.localtime(each.opened_unix_s))
            what = f"{each.fault_class or '?'} -> {each.action or '-'}"
            table.add_row(str(each.id), at, what, ", ".join(each.nodes) or "nobody", *_cells(each.time))
        blocks.append(table)
    table = _table("node", "GPUs", "model")
    for node in message.nodes:
        table.add_row(node.node, str(node.gpus), node.device_model or "-", *_cells(node.time))
    return Group(*blocks, table)


def summary(spent: pb.TimeSpent) -> str:
    """One line: "ETTR 97.1 % of 3.2 h; GPU-hours: productive 24.9, recovery 0.5"."""
    used = [f"{state.replace('_', ' ')} {_hours(spent.gpu_s[state])}" for state in STATES if spent.gpu_s.get(state)]
    return f"ETTR {_ettr(spent)} of {_hours(spent.wall_s)} h; GPU-hours: {', '.join(used) or 'none'}"


def as_csv(message: pb.Ledger) -> str:
    """One row a job, a node and an incident; GPU-seconds by state. An empty cell: not known."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["job", "user", "of", "name", "gpus", "wall_s", "ettr", *(f"{state}_gpu_s" for state in STATES), "cost"]
    )
    for each in message.jobs:
        ettr = each.time.ettr if each.time.HasField("ettr") else ""
        head = [each.run_id, each.user]
        rows.writerow([*head, "job", each.run_id, each.gpus, round(each.time.wall_s, 3), ettr, *_figures(each.time)])
        for node in each.nodes:
            rows.writerow([*head, "node", node.node, node.gpus, "", "", *_figures(node.time)])
        for incident in each.incidents:
            rows.writerow([*head, "incident", incident.id, "", "", "", *_figures(incident.time)])
    return text.getvalue()


def _figures(spent: pb.TimeSpent) -> Iterable[float | str]:
    cost: float | str = round(spent.cost, 4) if spent.HasField("cost") else ""
    return (*(spent.gpu_s.get(state, 0.0) for state in STATES), cost)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*columns, *(state.replace("_", " ") for state in STATES), "cost"):
        table.add_column(column, overflow="fold")
    return table


def _cells(spent: pb.TimeSpent) -> tuple[str, ...]:
    cost = f"{spent.cost:.2f}" if spent.HasField("cost") else "-"
    return (*(_hours(spent.gpu_s.get(state, 0.0)) for state in STATES), cost)


def _hours(seconds: float) -> str:
    """Hours with three digits that count: a recovery of seconds is not nothing."""
    return f"{seconds / _HOUR_S:.3g}" if seconds else "0"


def _ettr(spent: pb.TimeSpent) -> str:
    return f"{spent.ettr:.1%}" if spent.HasField("ettr") else "-"
