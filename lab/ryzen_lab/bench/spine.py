"""Ryzen against stock torchrun: the same script, the same faults, the same clock.

The stock baseline is torchrun alone with the c10d rendezvous, as a user has it without Ryzen; once with defaults
and once with the switch that works around its stale shared store (with the defaults a two-node restart may fail
again and again: the ranks read the addresses of the round before). A trial that has not recovered in
`PATIENCE_S` counts as not recovered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ryzen_lab.settings import TrialSettings
from ryzen_lab.trial import run_trials

PATIENCE_S = 100.0
WORKAROUND = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@dataclass(frozen=True)
class Arrangement:
    """One row: how the job is run and what happens to it."""

    name: str
    options: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


_STOCK = {"rdzv": "c10d", "bare": True}
_NODE = {"fault": "node-kill", "fault_node": "node-1", "min_nodes": 1}

ARRANGEMENTS = (
    Arrangement("rank killed, Ryzen", {"fault": "kill"}),
    Arrangement("rank killed, Ryzen, ranks not forked", {"fault": "kill", "cold": True}),
    Arrangement("rank killed, torchrun c10d", {"fault": "kill", **_STOCK}),
    Arrangement("rank killed, torchrun c10d, store not shared", {"fault": "kill", **_STOCK}, WORKAROUND),
    Arrangement("rank raises, Ryzen", {"fault": "exit"}),
    Arrangement("rank frozen, Ryzen", {"fault": "stop"}),
    Arrangement("node killed, Ryzen", _NODE),
    Arrangement("node killed, spare, Ryzen", {"fault": "node-kill", "spares": 1}),
    Arrangement("node killed, torchrun c10d", {**_NODE, **_STOCK}),
    Arrangement("node killed, torchrun c10d, store not shared", {**_NODE, **_STOCK}, WORKAROUND),
)


async def measure(repeat: int, told: Callable[[list[dict[str, Any]]], None]) -> list[dict[str, Any]]:
    """A row for each arrangement: its name, the results of the trials that ended, those that did not.

    It takes half an hour, so `told` hears of all rows so far whenever one is complete.
    """
    rows: list[dict[str, Any]] = []
    for arrangement in ARRANGEMENTS:
        results: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        settings = TrialSettings(**arrangement.options, seed=1, timeout_s=PATIENCE_S)
        with _environment(arrangement.environment):
            async for result in run_trials(settings, repeat):
                (failures if "error" in result else results).append(result)
        rows.append({"name": arrangement.name, "results": results, "failures": failures})
        told(rows)
    return rows


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
