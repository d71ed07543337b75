"""Faults done by a signal from outside. The record is made before the signal, so that no time is lost after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from typing import ClassVar

from ryzen_lab.cluster import Cluster
from ryzen_lab.errors import LabError
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.record import Injection, Rank


class Kill(Fault):
    """SIGKILL a rank, as the kernel's OOM killer does."""

    kind = "kill"
    target = Target.RANK
    number: ClassVar[signal.Signals] = signal.SIGKILL

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        injection = self.done(cluster, aim, [rank.pid])
        _signal([rank.pid], self.number)
        return injection


class Stop(Kill):
    """SIGSTOP a rank: it lives, holds its connections open, and does nothing."""

    kind = "stop"
    number = signal.SIGSTOP


class NodeKill(Fault):
    """Agent, torchrun and ranks of a node at once. Its sockets are closed by the kernel: a power cut would not."""

    kind = "node-kill"
    target = Target.NODE

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        if aim.node is None:
            raise LabError("node-kill needs a node")
        pids = cluster.processes_of_node(aim.node)
        injection = self.done(cluster, aim, pids)
        _signal(pids, signal.SIGKILL)
        late = [pid for pid in cluster.processes_of_node(aim.node) if pid not in pids]  # forked meanwhile
        _signal(late, signal.SIGKILL)
        injection.pids += late
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:
        if aim.node is None:
            return
        shutil.rmtree(aim.node.run_dir, ignore_errors=True)  # in memory: gone after a reboot
        if not cluster.layout.bare:
            cluster.start_agent(aim.node)
        cluster.start_torchrun(aim.node)


class NodeStop(Fault):
    """SIGSTOP of everything on a node: a virtual machine that is paused, and comes back in the past."""

    kind = "node-stop"
    target = Target.NODE
    return_after_s = 6.0

    def __init__(self) -> None:
        self._stopped: list[int] = []

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        if aim.node is None:
            raise LabError("node-stop needs a node")
        self._stopped = cluster.processes_of_node(aim.node)
        injection = self.done(cluster, aim, list(self._stopped))
        _signal(self._stopped, signal.SIGSTOP)
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:  # noqa: ARG002 - it knows whom it stopped
        _signal(self._stopped, signal.SIGCONT)


class AgentKill(Fault):
    """SIGKILL a node's agent; its supervisor starts it again later. Training must not notice."""

    kind = "agent-kill"
    target = Target.NODE
    interrupts = False
    return_after_s = 3.0

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        if aim.node is None or aim.node.agent is None:
            raise LabError("agent-kill needs a node with an agent")
        injection = self.done(cluster, aim, [aim.node.agent.pid])
        _signal([aim.node.agent.pid], signal.SIGKILL)
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:
        if aim.node is not None:
            cluster.start_agent(aim.node)


class CoordinatorKill(Fault):
    """SIGKILL the coordinator; it comes back on its old journal and address. Training must not notice."""

    kind = "coordinator-kill"
    target = Target.CONTROL
    interrupts = False
    return_after_s = 3.0

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        if cluster.coordinator is None:
            raise LabError("coordinator-kill needs a coordinator")
        injection = self.done(cluster, aim, [cluster.coordinator.pid])
        _signal([cluster.coordinator.pid], signal.SIGKILL)
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:  # noqa: ARG002 - there is one coordinator
        await cluster.start_coordinator()


def needed_rank(aim: Aim) -> Rank:
    if aim.rank is None:
        raise LabError("this fault needs a rank")
    return aim.rank


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
