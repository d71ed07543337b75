"""What starts the ranks of a node where Ryzen does not: torchrun alone, or a program that takes torchrun's options.

A description, no code: `Cluster` makes the command line of it. In `options`, `master` and the values of
`environment` these stand for what is known only then: {endpoint} HOST:PORT of the rendezvous or master, {port},
{node} the node's number from 0, {nodes} how many there are without spares, {run_id}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

C10D = ("--rdzv-backend=c10d", "--rdzv-id={run_id}", "--rdzv-endpoint={endpoint}", "--local-addr=127.0.0.1")
"""Rendezvous of torchrun; node 0 hosts its store, by an option that `Cluster` adds."""


@dataclass(frozen=True)
class Launcher:
    """A program in torchrun's place, and what it needs."""

    program: str = "torchrun"
    """A path, or a name beside the lab's own interpreter."""
    rendezvous: tuple[str, ...] = C10D
    options: tuple[str, ...] = ("--monitor-interval=0.1",)
    wrapper: tuple[str, ...] = ()
    """A script that runs the training script, for what this launcher wants to have called in it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    master: tuple[str, ...] = ()
    """A process of the job that is on no node: its command line, or nothing."""

    def hosts_store(self) -> bool:
        """Whether node 0 hosts the rendezvous: its loss is the job's."""
        return self.rendezvous == C10D

    def filled(self, values: Mapping[str, object]) -> Launcher:
        """With every placeholder filled."""

        def fill(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(each.format(**values) for each in texts)

        return Launcher(
            program=self.program,
            rendezvous=fill(self.rendezvous),
            options=fill(self.options),
            wrapper=self.wrapper,
            environment={name: value.format(**values) for name, value in self.environment.items()},
            master=fill(self.master),
        )
