"""The life of the agent's process: locks its run directory, runs until a signal, leaves cleanly."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

import uvloop

from ryzen_agent import identity, local_server, places
from ryzen_agent.agent import Agent
from ryzen_agent.errors import AgentError
from ryzen_agent.settings import AgentSettings, read_token
from ryzen_protos import run_dir
from ryzen_protos.settings import USAGE_EXIT_CODE, SettingsError
from ryzen_telemetry import logs, pipeline, resource
from ryzen_telemetry.settings import Plan, plan

BROKEN_EXIT_CODE = 1

log = logging.getLogger(__name__)


def serve(settings: AgentSettings, supervisor_pid: int | None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code; wrong input is one line on standard error."""
    try:
        token = read_token(settings)
        wanted = plan(settings)
        served = places.choose(settings.run_dir)
        lock = local_server.lock(places.make_state_folder(served.state_folder))
    except (SettingsError, run_dir.RunDirError, AgentError) as error:
        return _refuse(error)
    logs.set_up("ryzen-agent", settings.json_logs)
    try:
        return uvloop.run(_serve(settings, served, token, supervisor_pid, wanted))
    except (SettingsError, run_dir.RunDirError, AgentError) as error:
        return _refuse(error)
    finally:
        os.close(lock)


async def _serve(
    settings: AgentSettings, served: places.Own | places.EveryUsers, token: str | None, supervisor_pid: int | None,
    wanted: Plan,
) -> int:  # fmt: skip
    hello = identity.hello(settings)
    health = settings.health_settings(served.state_folder)
    telemetry = pipeline.start(wanted, "agent", resource.attributes("agent", hello.node))
    agent = Agent(
        hello, served, settings.coordinator, token, settings.scan_interval_s, settings.spool_bytes, health, telemetry
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log.info("node %s (%s) serves %s, coordinator %s", hello.node, hello.address, served, settings.coordinator)
    broken = _break_on_errors()
    running = asyncio.create_task(agent.run())
    waiting = [asyncio.create_task(each.wait()) for each in (stopping, agent.idle)]
    if supervisor_pid is not None:
        _outlive(supervisor_pid, agent)
    ends: set[asyncio.Future[Any]] = {running, broken, *waiting}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    reason = "the agent was asked to stop" if stopping.is_set() else "the agent has nothing left to do"
    await asyncio.gather(agent.stop(reason), *([asyncio.to_thread(telemetry.close)] if telemetry is not None else []))
    if running.done():
        running.result()
    running.cancel()
    return BROKEN_EXIT_CODE if broken.done() else 0


def _break_on_errors() -> asyncio.Future[None]:
    """Done once a callback has raised: half an agent is worse than one that is started again and takes over."""
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.error("%s", context["message"], exc_info=error)
        if "handle" in context and not broken.done():
            broken.set_result(None)

    loop.set_exception_handler(handle)
    return broken


def _outlive(supervisor_pid: int, agent: Agent) -> None:
    """Should the supervisor be killed, its torchrun goes on: the agent stays until no job is left."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(descriptor)
        agent.leave_when_idle = True

    try:
        descriptor = os.pidfd_open(supervisor_pid)
        loop.add_reader(descriptor, gone)
    except ProcessLookupError:
        agent.leave_when_idle = True


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"ryzen-agent: {error}\n")
    return USAGE_EXIT_CODE
