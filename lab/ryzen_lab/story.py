"""A trial told live, in words: a listener of the record that prints a line for each thing that matters.

What the lab does (the fault) and what Ryzen says (its incidents) are told apart by the first word of the line.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ryzen_lab.measure import STAGES
from ryzen_lab.record import Injection, Rank, Service
from ryzen_protos.v1 import operator_pb2

_DEEDS = {
    "kill": "kills {who} (SIGKILL)",
    "exit": "makes {who} raise an exception",
    "stop": "freezes {who} (SIGSTOP)",
    "spin": "makes {who} spin in a Python loop",
    "gil": "makes {who} hold the interpreter's lock for ever",
    "backward": "lets {who} wait for ever in a gradient hook",
    "loader": "lets the data loader of {who} wait for ever",
    "save": "lets a checkpoint save of {who} wait for ever",
    "deadlock": "sends {who} into a collective that nobody else enters",
    "skip": "makes {who} skip one gradient synchronisation",
    "pause": "sends {who} into an evaluation of 30 s: no fault",
    "node-stop": "freezes {who}: agent, torchrun and ranks (SIGSTOP)",
    "partition": "cuts the agent of {who} off from the coordinator",
    "node-kill": "kills {who}: agent, torchrun and ranks",
    "agent-kill": "kills the agent of {who}",
    "coordinator-kill": "kills the coordinator",
}
_PLAIN_EVERY = 25
_BAR = 30
_EXPLAINED = {
    "detect": "the fault is noticed",
    "blame": "the culprit is named",
    "stop": "the old ranks are gone",
    "rendezvous": "the new ranks are started",
    "start": "Python and torch are imported",
    "restore": "the checkpoint is loaded",
    "first_step": "the first new step is done",
}


class Story:
    """Use as a context; `hear` is the listener."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._began = time.monotonic()
        self._live = Live(console=console, transient=True, refresh_per_second=10) if console.is_terminal else None
        self._step = 0
        self._told: set[tuple[int, str]] = set()
        self._verdicts: dict[int, str] = {}
        self._worlds: dict[int, list[Rank]] = {}
        self._struck = False

    def __enter__(self) -> Story:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str, style: str = "") -> None:
        """One line with the seconds since the start."""
        seconds = f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  "
        self._console.print(
            seconds + (f"[{style}]{line}[/{style}]" if style else line), highlight=False, soft_wrap=True
        )

    def hear(self, kind: str, subject: object) -> None:
        """Told by the observer of every event."""
        if isinstance(subject, Rank):
            self._rank(kind, subject)
        elif isinstance(subject, Injection):
            self._fault(subject)
        elif isinstance(subject, operator_pb2.Incident):
            self._incident(subject)
        elif isinstance(subject, Service):
            self._service(subject)
        elif kind == "returned" and isinstance(subject, tuple):
            self.say(f"lab: brings back what {subject[0]} took {escape(f'({subject[1]})') if subject[1] else ''}")

    def _rank(self, kind: str, rank: Rank) -> None:
        if kind == "born":
            self._born(rank)
        elif kind == "step":
            self._stepped(rank)
        elif kind == "died" and self._struck and not rank.finished:
            self.say(f"{_name(rank)} is gone{_how(rank.exit_code)}", "dim")

    def _born(self, rank: Rank) -> None:
        world = self._worlds.setdefault(rank.generation, [])
        world.append(rank)
        if len(world) == rank.world_size:
            nodes = ", ".join(dict.fromkeys(each.node for each in sorted(world, key=lambda each: each.rank)))
            self.say(f"generation {rank.generation}: {len(world)} ranks started on {nodes}")

    def _stepped(self, rank: Rank) -> None:
        if len(rank.steps) == 1 and rank.rank == 0:
            first = rank.last_step
            came = f"resumes from the checkpoint of step {first - 1}" if first > 1 else "begins"
            lost = max(0, self._step - (first - 1))
            again = f", to do {lost} {'step' if lost == 1 else 'steps'} again" if first > 1 else ""
            self.say(f"training {came}{again}: step {first} is done", "bold green")
            self._step = first
        if rank.rank != 0 or rank.last_step <= self._step:
            return
        self._step = rank.last_step
        if self._live is not None:
            done = int(_BAR * self._step / self._steps)
            bar = "━" * done + " " * (_BAR - done)
            self._live.update(Text(f"          step {self._step:4} of {self._steps}  {bar}"))
        elif self._step % _PLAIN_EVERY == 0:
            self.say(f"step {self._step} of {self._steps}", "dim")

    def _fault(self, injection: Injection) -> None:
        self._struck = True
        who = injection.node or ""
        if injection.rank is not None:
            who = f"rank {injection.rank} of {injection.node}"
        deed = _DEEDS.get(injection.kind, f"does {injection.kind} to {{who}}").format(who=who)
        self.say(f"lab: {deed} after step {injection.at_step}. Ryzen is told nothing of it.", "bold red")

    def _incident(self, incident: operator_pb2.Incident) -> None:
        verdict = incident.verdict
        for line in incident.evidence:
            self._once(incident.id, f"ryzen: known by: {line}", "yellow")
        if verdict.fault_class and self._verdicts.get(incident.id) != verdict.fault_class:
            self._verdicts[incident.id] = verdict.fault_class
            ranks = ", ".join(str(each) for each in verdict.ranks)
            whom = (f" of rank {ranks}" if ranks else "") + (f" on {', '.join(verdict.nodes)}" if verdict.nodes else "")
            said = f"ryzen: verdict: {verdict.fault_class}{whom}; action: {verdict.action}"
            self._once(incident.id, said, "bold yellow")
            if verdict.reason not in incident.evidence:
                self._once(incident.id, f"ryzen: because {verdict.reason}", "yellow")
        for line in incident.timeline:
            if " verdict: " not in line:
                brief = line.replace(f": {verdict.reason}", "") if verdict.reason else line
                self._once(incident.id, f"ryzen: {brief}", "dim yellow")

    def _once(self, incident: int, line: str, style: str) -> None:
        if (incident, line) not in self._told:
            self._told.add((incident, line))
            self.say(escape(line), style)

    def _service(self, service: Service) -> None:
        if service.died_ns is not None and not service.ended_by_lab and not self._struck_by_lab(service):
            self.say(f"{service.what} of {service.node or 'the cluster'} has ended{_how(service.exit_code)}", "dim")

    def _struck_by_lab(self, service: Service) -> bool:
        return self._struck and service.exit_code == -9


def stage_table(result: dict[str, Any]) -> Table:
    """Each stage's seconds, and what ends it."""
    table = Table("stage", "seconds", "ends when", title="from the fault to the first new step", title_justify="left")
    for stage in STAGES:
        seconds = result["stages_s"].get(stage)
        table.add_row(stage, "-" if seconds is None else f"{seconds:.3f}", _EXPLAINED[stage])
    recovered = result["recovered_s"]
    with suppress(TypeError):
        table.add_row("[bold]all[/bold]", f"[bold]{recovered:.3f}[/bold]", "blame runs beside stop")
    return table


def _name(rank: Rank) -> str:
    return f"rank {rank.rank} of {rank.node}"


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return ""
    return f" (signal {-exit_code})" if exit_code < 0 else f" (exit code {exit_code})"
