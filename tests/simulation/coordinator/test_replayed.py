"""Scenarios and random runs again: from snapshots, from the journal's records, from a log in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ryzen_coordinator.core import durable, snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Effect, Journal
from ryzen_coordinator.core.events import Event
from ryzen_coordinator.inputs.entries import Call, comparable
from ryzen_coordinator.inputs.writer import InputLog

from .run import run_seed
from .test_scenarios import FILES, replay

Run: TypeAlias = Path | int
"""A scenario file, or the seed of a random run."""

RUNS: list[Run] = [*FILES, *range(0, 1000, 83)]

EVERY = 41
"""Calls between two snapshots; no period of the scenarios."""


def name(what: Run) -> str:
    return what.stem if isinstance(what, Path) else f"seed-{what}"


@dataclass
class Life:
    """One core from its making: what it was made of and what it was asked."""

    made_of: tuple[Any, ...]
    calls: list[Call] = field(default_factory=list)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Life]]:
    """Every core that is made meanwhile, with all its calls."""
    lives: dict[int, Life] = {}
    made: list[Life] = []
    make, step, tick = Core.__init__, Core.step, Core.tick

    def making(core: Core, settings: Any, records: Any = (), now_s: float = 0.0, unix_offset_s: float = 0.0) -> None:
        text = json.dumps(list(records))  # a core may go on with the lists that it is given
        make(core, settings, json.loads(text), now_s, unix_offset_s)
        lives[id(core)] = Life((settings, json.loads(text), now_s, unix_offset_s))
        made.append(lives[id(core)])

    def kept_call(core: Core, cause: Event | None, now_s: float, call: Callable[[], list[Effect]]) -> list[Effect]:
        effects = call()
        lives[id(core)].calls.append(Call(now_s, cause, snapshot.decode(snapshot.encode(effects))))
        return effects

    with monkeypatch.context() as patch:
        patch.setattr(Core, "__init__", making)
        patch.setattr(
            Core, "step", lambda core, event, now: kept_call(core, event, now, lambda: step(core, event, now))
        )
        patch.setattr(Core, "tick", lambda core, now: kept_call(core, None, now, lambda: tick(core, now)))
        yield made


def lives_of(what: Run, monkeypatch: pytest.MonkeyPatch) -> list[Life]:
    """The cores of a scenario file, or of the random run of a seed."""
    with watched(monkeypatch) as lives:
        if isinstance(what, int):
            run_seed(what, replays=False)
        else:
            replay(what.read_text())
    asked_for_something = [life for life in lives if life.calls]
    assert asked_for_something
    return asked_for_something


def fresh(life: Life) -> Core:
    settings, records, now_s, offset = life.made_of
    return Core(settings, json.loads(json.dumps(records)), now_s, offset)


def asked(core: Core, call: Call) -> list[Effect]:
    return core.tick(call.now_s) if call.cause is None else core.step(call.cause, call.now_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", RUNS, ids=name)
def test_a_core_restored_from_a_snapshot_goes_on_as_the_first_one(what: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for life in lives_of(what, monkeypatch):
        core = fresh(life)
        for number, call in enumerate(life.calls):
            if number % EVERY == EVERY - 1:
                taken = snapshot.take(core)
                before = json.dumps(snapshot.encode(taken))
                asked(core, call)  # the snapshot is cut loose from the core that it was taken of
                assert json.dumps(snapshot.encode(taken)) == before
                core = snapshot.restored(snapshot.decode(json.loads(before)))
                assert json.dumps(snapshot.encode(vars(core))) == before
            assert comparable(asked(core, call)) == comparable(call.effects)


@pytest.mark.parametrize("what", RUNS, ids=name)
def test_a_core_restored_from_the_journal_keeps_the_same_records(what: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for life in lives_of(what, monkeypatch):
        records = {(kind, key): body for kind, key, body in life.made_of[1]}
        for call in life.calls:
            for effect in call.effects:
                if isinstance(effect, Journal):
                    records[(effect.kind, effect.key)] = json.loads(json.dumps(effect.body))
        records = {name: body for name, body in records.items() if body is not None}
        settings, _, _, offset = life.made_of
        listed = [(kind, key, body) for (kind, key), body in sorted(records.items())]
        core = Core(settings, json.loads(json.dumps(listed)), life.calls[-1].now_s + 5.0, offset)
        core.cluster.durable.update(dict.fromkeys(records))
        again = {(each.kind, each.key): json.loads(json.dumps(each.body)) for each in durable.flush(core.cluster)}
        assert again.keys() == records.keys()
        for name, body in records.items():
            assert again[name] == close_to(body), name


def close_to(body: Any) -> Any:
    """Times pass through another clock: equal to a microsecond."""
    if isinstance(body, dict):
        return {name: close_to(value) for name, value in body.items()}
    if isinstance(body, list):
        return [close_to(value) for value in body]
    return pytest.approx(body, abs=1e-6) if isinstance(body, float) else body


REPLAY_ALL = """
import sys
from pathlib import Path
from ryzen_coordinator.inputs.found import lines
from ryzen_coordinator.replay import replay
for folder in sorted(Path(sys.argv[1]).iterdir()):
    found = replay(folder)
    print(folder.name, found.calls, len(found.warnings), *([] if found.identical else lines(found)), sep="|")
"""


def test_another_process_makes_the_same_decisions_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another order in every set of strings, too."""
    expected = []
    for what in RUNS[::3]:
        for number, life in enumerate(lives_of(what, monkeypatch)):
            folder = tmp_path / f"{name(what)}-{number}"
            log_of(life, folder)
            expected.append(f"{folder.name}|{len(life.calls)}|0")
    printed = subprocess.run(
        [sys.executable, "-c", REPLAY_ALL, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr[-1500:]
    assert printed.stdout.splitlines() == sorted(expected)


def log_of(life: Life, folder: Path) -> None:
    """The life as a coordinator would have logged it, with a new segment now and then."""
    core = fresh(life)
    log = InputLog(folder, 1 << 26, session="s")
    settings, records, now_s, offset = life.made_of
    log.start(settings, records, now_s, offset)
    for number, call in enumerate(life.calls):
        asked(core, call)
        log.wants_state = number % 301 == 300
        if log.add(call, core):
            log.flush()
    log.close(life.calls[-1].now_s)
