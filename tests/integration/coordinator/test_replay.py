"""Replay of real coordinators that were killed, started again, and are still at work."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from ryzen_coordinator.inputs import frames
from ryzen_coordinator.inputs.writer import segments
from ryzen_coordinator.journal import Journal
from ryzen_coordinator.replay import replay

from .fake_node import FakeNode, until
from .test_commands import ran, served


def test_what_two_coordinators_decided_is_decided_again_though_the_first_was_killed(run: Any, tmp_path: Path) -> None:
    journal = tmp_path / "coordinator.sqlite"

    async def test() -> None:
        async with served(tmp_path) as (process, address):
            first = [FakeNode(address, name).start() for name in "ab"]
            await until(lambda: first[0].generation == 1, "generation 1")
            first[0].fail(0, -9)
            await until(lambda: first[1].generation == 2, "generation 2")
            code, out, err = await ran("replay", str(journal))  # beside the coordinator at work
            assert (code, err.count("\n")) == (0, 1)
            assert "a coordinator is at work on it" in err
            assert "job: world of generation 2: a, b" in out
            process.kill()
            await process.wait()
            await asyncio.gather(*(node.cut() for node in first))
        async with served(tmp_path) as (process, address):
            for node in first:
                node.address = address
                node.start()
            await asyncio.sleep(0.5)
            first[0].fail(0, -9)
            await until(lambda: first[1].generation == 3, "generation 3")
            assert (await ran("evict", "b", "--reason", "fan 3", "--coordinator", address))[0] == 0
            await asyncio.gather(*(node.cut() for node in first))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
        code, out, err = await ran("replay", str(journal), "--json")
        assert code == 0, (out, err)  # a decision of the killed one may be without its commit, and a warning
        found = json.loads(out)
        assert (found["identical"], found["sessions"], found["differences"]) == (True, 2, [])
        assert {"b is evicted: fan 3", "job: world of generation 3: a, b"} <= {
            each["text"] for each in found["decisions"]
        }

    run(test())


def test_a_killed_coordinator_has_logged_the_cause_of_every_decision_in_its_journal(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, "--fruitless-generations", "100") as (process, address):
            node = FakeNode(address, "a", minimum=1, maximum=1, ranks=1).start()
            for generation in range(1, 6):
                await until(lambda wanted=generation: node.generation == wanted, f"generation {generation}")
                node.fail(0, -9)
            process.kill()  # in the middle of the fifth recovery
            await process.wait()
            await node.cut()

    run(test())
    found = replay(tmp_path / "coordinator.sqlite")
    assert found.identical
    journal = Journal(tmp_path / "coordinator.sqlite")
    decided = {key: body for kind, key, body in journal.records() if kind == "job"}
    journal.close()
    said = [each.text for each in found.decisions]
    assert f"job: world of generation {decided['me/job']['world']['generation']}: a" in said


def test_a_tampered_decision_ends_replay_with_1_and_damage_with_2(run: Any, tmp_path: Path) -> None:
    journal = tmp_path / "coordinator.sqlite"

    async def made() -> None:
        async with served(tmp_path) as (process, address):
            node = FakeNode(address, "a", minimum=1, maximum=1, ranks=1).start()
            await until(lambda: node.generation == 1, "generation 1")
            await node.cut()
            process.send_signal(signal.SIGTERM)
            await process.wait()

    run(made())
    (segment,) = segments(Path(f"{journal}.inputs"))
    good = segment.read_bytes()
    whole = frames.scan(good, "").frames
    changed = [frame.payload.replace(b"world of generation 1", b"world of generation 7") for frame in whole]
    segment.write_bytes(b"".join(frames.pack(number, payload) for number, payload in enumerate(changed)))

    async def test() -> None:
        code, out, err = await ran("replay", str(journal))
        assert (code, err) == (1, "")
        differs = out[out.index("DIFFERS") :].splitlines()
        assert f"{segment} offset " in differs[0]
        assert "recorded  Say text: job: world of generation 7: a" in differs[1]
        assert "now       Say text: job: world of generation 1: a" in differs[2]
        damaged = bytearray(good)
        damaged[whole[0].offset + 40] ^= 1
        segment.write_bytes(damaged)
        code, out, err = await ran("replay", str(journal))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{segment}: damaged at offset 0: ")
        segment.write_bytes(good[:-9])
        code, out, err = await ran("replay", str(journal))
        assert (code, err.count("\n")) == (0, 1)
        assert err.startswith(f"warning: {segment}: cut at offset ")
        for arguments, words in {
            (str(tmp_path / "none"),): "No such file",
            (str(journal), "--from", "yesterday"): "option --from: 'yesterday'",
        }.items():
            code, out, err = await ran("replay", *arguments)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert words in err

    run(test())


def test_without_room_for_a_log_there_is_none_and_replay_says_so(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, "--replay-bytes", "0"):
            pass
        assert not (tmp_path / "coordinator.sqlite.inputs").exists()
        code, _, err = await ran("replay", str(tmp_path / "coordinator.sqlite"))
        assert (code, err.count("\n")) == (2, 1)
        assert "replay_bytes" in err

    run(test())
