"""`ryzen-agent run [agent options] -- torchrun ...`: the agent and torchrun as two children.

The supervisor stays tiny: no gRPC, no event loop, one option of its own (`--cold`); the agent reads the others, those
for the worker too (warm.py). If the agent dies it is started again and takes over what runs; torchrun never notices.
The supervisor ends with torchrun's exit code. Should the supervisor itself be killed, torchrun goes on, and the agent
leaves once nothing is left for it to watch.

torchrun is reaped last: as long as it is a zombie the agent can read its exit code.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ryzen_agent import warm

USAGE_EXIT_CODE = 2
RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0
LIVED_S = 10.0
"""An agent that lived this long is started again at once."""

FAREWELL_S = 3.0
COLD = "--cold"
"""The supervisor's only option: torchrun starts ranks as it always does (see warm.py)."""

ADDED = {"--rdzv-backend": "ryzen", "--max-restarts": "1000", "--monitor-interval": "0.05"}
"""Flags that torchrun gets where the user left them out. Between two of its looks torchrun learns of a new generation,
and its ranks are not killed before: a restart waits for half of the interval on one node and nearly all of it on many.
A look costs torchrun 0.2 ms."""


class UsageError(ValueError):
    """One line for the user."""


def main(arguments: Sequence[str]) -> int:
    """Run both. Returns the exit code for the shell."""
    try:
        agent_options, command = split(arguments)
        cold = COLD in agent_options
        command = with_missing_flags(command)
        if not cold and _value(command, "--standalone") is None:
            command = warm.with_worker(command, torchrun_at(command))
        agent_options = [each for each in agent_options if each != COLD]
        os.environ.update(warm.read_environment(agent_options))
        return Supervisor(agent_options, command).run()
    except warm.OptionsError:
        return USAGE_EXIT_CODE
    except (UsageError, OSError) as error:
        sys.stderr.write(f"ryzen-agent run: {error}\n")
        return USAGE_EXIT_CODE


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of the agent, and torchrun's command line."""
    given = list(arguments)
    if "--" not in given:
        raise UsageError("'--' is missing: ryzen-agent run [options] -- torchrun ...")
    at = given.index("--")
    return given[:at], given[at + 1 :]


def with_missing_flags(command: Sequence[str]) -> list[str]:
    """torchrun's command line with the flags that the user left out. Raises UsageError where torchrun is not in it."""
    given = list(command)
    at = torchrun_at(given)
    if _value(given, "--standalone") is not None:
        return given
    missing = [f"{flag}={value}" for flag, value in ADDED.items() if _value(given, flag) is None]
    return [*given[: at + 1], *missing, *given[at + 1 :]]


def torchrun_at(command: Sequence[str]) -> int:
    """Index of the word that torchrun's own arguments follow."""
    for index, word in enumerate(command):
        if Path(word).name == "torchrun":
            return index
        if word == "torch.distributed.run" and command[index - 1] == "-m":
            return index
    raise UsageError(f"there is no torchrun in {' '.join(command) or 'the command'!r}")


def _value(command: Sequence[str], flag: str) -> str | None:
    """What a flag of torchrun was given, in either spelling; "" where its value stands in the next word."""
    for word in command:
        name, _, value = word.partition("=")
        if name.replace("_", "-") == flag:
            return value
    return None


class Supervisor:
    """See the module's header."""

    def __init__(self, agent_options: Sequence[str], command: Sequence[str]) -> None:
        self._agent_command = [sys.executable, "-m", "ryzen_agent.cli", *agent_options]
        self._command = list(command)
        self._is_ours = any(word in ("--rdzv-backend=ryzen", "--rdzv_backend=ryzen", "ryzen") for word in command)
        self._poll = select.poll()
        self._woken, self._wake = socket.socketpair()
        self._agent: subprocess.Popen[bytes] | None = None
        self._agent_fd = -1
        self._agent_started_s = 0.0
        self._agents = 0
        self._delay_s = RESTART_S_MIN
        self._restart_at_s: float | None = None
        self._signals: list[int] = []

    def run(self) -> int:
        self._catch_signals()
        self._start_agent()
        torchrun = subprocess.Popen(self._command, process_group=0)
        torchrun_fd = os.pidfd_open(torchrun.pid)
        self._poll.register(torchrun_fd, select.POLLIN)
        usage = self._watch(torchrun, torchrun_fd)
        self._end_agent()
        code = torchrun.wait()
        if usage:
            return USAGE_EXIT_CODE
        return code if code >= 0 else 128 - code

    def _watch(self, torchrun: subprocess.Popen[bytes], torchrun_fd: int) -> bool:
        """Until torchrun has ended. True where it was ended because the agent's options are wrong."""
        usage = False
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._wait_ms())}
            if self._woken.fileno() in ready:
                self._forward_signals(torchrun.pid)
            if torchrun_fd in ready:
                return usage
            if self._agent_fd in ready and self._agent_ended():
                usage = True
                os.kill(torchrun.pid, signal.SIGTERM)
            if self._restart_at_s is not None and time.monotonic() >= self._restart_at_s:
                self._start_agent()

    def _agent_ended(self) -> bool:
        """The agent is gone: plan the next one. True where it said that it was started wrongly."""
        assert self._agent is not None  # noqa: S101 - its descriptor was ready
        code = self._agent.wait()
        self._poll.unregister(self._agent_fd)
        os.close(self._agent_fd)
        self._agent, self._agent_fd = None, -1
        if code == USAGE_EXIT_CODE and self._agents == 1 and self._is_ours:
            return True
        if time.monotonic() - self._agent_started_s > LIVED_S:
            self._delay_s = RESTART_S_MIN
        if code == USAGE_EXIT_CODE:
            self._delay_s = RESTART_S_MAX
        self._restart_at_s = time.monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, RESTART_S_MAX)
        return False

    def _start_agent(self) -> None:
        # In a session of its own: Ctrl-C in the terminal is for torchrun, and the agent must see it end.
        command = [*self._agent_command, f"--supervisor-pid={os.getpid()}"]
        self._agent = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
        self._agent_fd = os.pidfd_open(self._agent.pid)
        self._poll.register(self._agent_fd, select.POLLIN)
        self._agents += 1
        self._agent_started_s = time.monotonic()
        self._restart_at_s = None

    def _end_agent(self) -> None:
        if self._agent is None:
            return
        self._agent.terminate()
        try:
            self._agent.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()

    def _wait_ms(self) -> float | None:
        if self._restart_at_s is None:
            return None
        return max(self._restart_at_s - time.monotonic(), 0.0) * 1000 + 1

    def _catch_signals(self) -> None:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the wakeup descriptor tells which
        self._poll.register(self._woken.fileno(), select.POLLIN)

    def _forward_signals(self, pid: int) -> None:
        for number in self._woken.recv(64):
            os.kill(pid, number)
