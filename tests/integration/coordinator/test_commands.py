"""The console script as a process: what it prints, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .fake_node import FakeNode, until

COMMAND = [sys.executable, "-c", "from ryzen_coordinator.cli import main; main()"]


async def ran(*arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def served(folder: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A coordinator as a process, and its address."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "--listen", "127.0.0.1:0", "--state-dir", str(folder), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert line.startswith("listening on 127.0.0.1:"), line
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_a_coordinator_serves_until_sigterm_and_answers_every_command(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (process, address):
            node = FakeNode(address, "a", minimum=1, maximum=1, ranks=1).start()
            await until(lambda: node.generation == 1, "generation 1")
            node.fail(0, -9)
            await until(lambda: node.generation == 2, "generation 2")
            at = ("--coordinator", address)
            answers = await asyncio.gather(
                ran("status", "--json", *at), ran("nodes", "--json", *at), ran("incidents", "--json", *at),
                ran("incidents", "1", *at), ran("status", *at), ran("evict", "nobody", "--reason", "x", *at),
            )  # fmt: skip
            status, nodes, incidents = (json.loads(out) for _, out, _ in answers[:3])
            assert (status["jobs"][0]["run_id"], status["jobs"][0]["generation"]) == ("job", 2)
            assert nodes[0]["node"] == "a"
            assert incidents[0]["verdict"]["fault_class"] == "exit"
            assert "killed by SIGKILL" in answers[3][1]
            assert "running" in answers[4][1]
            assert answers[5][0] == 1
            assert answers[5][2].strip() == "no node 'nobody' (known: a)"
            await node.cut()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0

    run(test())


def test_the_ledger_is_a_table_csv_or_json_and_names_the_jobs_that_there_are(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "c.yaml").write_text('gpu_hour_price: {"*": 3600}\n')
        async with served(tmp_path, "--config", str(tmp_path / "c.yaml")) as (_, address):
            node = FakeNode(address, "a", minimum=1, maximum=1, ranks=2).start()
            await until(lambda: node.generation == 1, "generation 1")
            node.fail(0, -9)
            await until(lambda: node.generation == 2, "generation 2")
            at = ("--coordinator", address)
            answers = await asyncio.gather(
                ran("ledger", "--json", *at), ran("ledger", "job", *at), ran("ledger", "--csv", *at),
                ran("ledger", "nothing", *at), ran("ledger", "--csv", "--json", *at), ran("status", *at),
            )  # fmt: skip
            (job,) = json.loads(answers[0][1])["jobs"]
            spent_s = sum(job["time"]["gpu_s"].values())
            assert (job["run_id"], job["gpus"], job["nodes"][0]["node"]) == ("job", 2, "a")
            assert spent_s > 0
            assert abs(job["time"]["cost"] - spent_s) < 0.01
            assert "GPU-hours" in answers[1][1]
            assert answers[2][1].startswith("job,user,of,name,gpus,wall_s,ettr,productive_gpu_s,")
            assert (answers[3][0], answers[3][2].strip()) == (1, "no job 'nothing' (known: job)")
            assert (answers[4][0], answers[4][2].strip()) == (2, "--csv and --json: one of the two")
            assert "ETTR" in answers[5][1]
            await node.cut()

    run(test())


def test_a_second_coordinator_on_the_port_or_the_journal_says_so_in_one_line(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (_, address):
            code, _, err = await ran("serve", "--listen", address, "--state-dir", str(tmp_path / "other"))
            assert (code, err.count("\n")) == (2, 1), err
            assert f"cannot listen on {address}" in err
            code, _, err = await ran("serve", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path))
            assert (code, err.count("\n")) == (2, 1), err
            assert "another coordinator uses it" in err

    run(test())


def test_beyond_loopback_the_token_is_made_and_printed_once(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        for first in (True, False):
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "serve", "--listen", "0.0.0.0:0", "--state-dir", str(tmp_path),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            lines = []
            while not lines or not lines[-1].startswith("listening on"):
                lines.append((await asyncio.wait_for(process.stdout.readline(), 30)).decode())
            assert any("RYZEN_TOKEN=" in line for line in lines) is first
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0

    run(test())


def test_wrong_input_is_one_line_and_exit_code_2(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        config = tmp_path / "c.yaml"
        config.write_text("leese_s: 2\n")
        wrong = {
            ("serve", "--lease-s", "no"): "--lease-s",
            ("serve", "--listen", "nowhere"): "HOST:PORT",
            ("serve", "--config", str(config)): "leese_s",
            ("serve", "--config", str(tmp_path / "none.yaml")): "No such file",
            ("serve", "--token-file", "/proc/none/tokens", "--listen", "127.0.0.1:0"): "token file",
            ("serve", "--journal", "/proc/none/journal", "--listen", "127.0.0.1:0"): "journal /proc/none/journal",
        }
        for (arguments, words), (code, _, err) in zip(
            wrong.items(), await asyncio.gather(*(ran(*each) for each in wrong)), strict=True
        ):
            assert (code, err.count("\n")) == (2, 1), (arguments, err)
            assert words in err

    run(test())


def test_an_unreachable_coordinator_is_one_line(run: Any) -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            code, _, err = await ran("status", "--coordinator", address)
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith(f"no coordinator answers at {address}")

    run(test())


def test_status_watch_shows_changes_as_json_lines(run: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (_, address):
            watch = await asyncio.create_subprocess_exec(
                *COMMAND, "status", "--watch", "--json", "--coordinator", address, stdout=asyncio.subprocess.PIPE
            )
            assert watch.stdout is not None
            assert json.loads(await asyncio.wait_for(watch.stdout.readline(), 30))["nodes"] == []
            node = FakeNode(address, "a", minimum=1, maximum=1).start()
            while not json.loads(await asyncio.wait_for(watch.stdout.readline(), 30))["nodes"]:
                pass
            watch.kill()
            await watch.wait()
            await node.cut()

    run(test())
