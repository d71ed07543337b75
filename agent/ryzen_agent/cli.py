"""`ryzen-agent`: parse, build, call one function.

argparse and late imports on purpose: the running agent and the supervisor pay for what they import with
memory on every node, so each command imports only what it needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ryzen_agent.settings import AgentSettings

USAGE_EXIT_CODE = 2

USAGE = """\
usage: ryzen-agent [options]                      run this node's agent
       ryzen-agent run [--cold] [options] -- torchrun ...
                                                  run torchrun and an agent beside it; ranks are forked from a
                                                  process that has imported torch, or not with --cold
       ryzen-agent status [--run-dir DIR] [--json]
       ryzen-agent scan-kmsg FILE|- [--json]       what a saved kernel log (dmesg, journal, /dev/kmsg) says of
                                                  GPUs, links, memory and disks
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"ryzen-agent: {message} (see ryzen-agent --help)\n")
        raise SystemExit(USAGE_EXIT_CODE)


def main() -> None:
    arguments = sys.argv[1:]
    command = arguments[0] if arguments else ""
    if command == "run":
        from ryzen_agent import supervisor

        raise SystemExit(supervisor.main(arguments[1:]))
    if command == "status":
        _status(arguments[1:])
    elif command == "scan-kmsg":
        _scan_kmsg(arguments[1:])
    elif command == "worker-environment":  # the supervisor asks
        _worker_environment(arguments[1:])
    elif command and not command.startswith("-"):
        sys.stderr.write(f"ryzen-agent: unknown command {command!r}: run, status, scan-kmsg, or options alone\n")
        raise SystemExit(USAGE_EXIT_CODE)
    else:
        _serve(arguments)


def _serve(arguments: Sequence[str]) -> None:
    from ryzen_agent import service

    settings, supervisor_pid = _settings(arguments)
    raise SystemExit(service.serve(settings, supervisor_pid))


def _worker_environment(arguments: Sequence[str]) -> None:
    import json

    from ryzen_agent.warm import environment

    sys.stdout.write(json.dumps(environment(_settings(arguments)[0])) + "\n")


def _settings(arguments: Sequence[str]) -> tuple[AgentSettings, int | None]:
    """The agent's options, and the pid of its supervisor. One line and exit code 2 where they are wrong."""
    from ryzen_agent.settings import AgentSettings
    from ryzen_protos import __version__
    from ryzen_protos.settings import SettingsError, fail, load

    parser = _Parser(prog="ryzen-agent", usage=USAGE[len("usage: ") :], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ryzen {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of these options")
    parser.add_argument("--supervisor-pid", type=int, help=argparse.SUPPRESS)
    for name, field in AgentSettings.model_fields.items():
        _add_option(parser, name, field.description or "", field.annotation in (bool, bool | None))
    flags = vars(parser.parse_args(arguments))
    config, supervisor_pid = flags.pop("config"), flags.pop("supervisor_pid")
    flags["labels"] = _labels(flags.pop("labels"))
    try:
        return load(AgentSettings, flags, config), supervisor_pid
    except SettingsError as error:
        fail(str(error))


def _add_option(parser: argparse.ArgumentParser, name: str, description: str, switch: bool) -> None:
    flag = f"--{name.replace('_', '-')}"
    if switch:
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=description)
    elif name == "labels":
        parser.add_argument("--label", flag, dest=name, action="append", metavar="KEY=VALUE", help=description)
    else:
        parser.add_argument(flag, dest=name, metavar=name.upper(), help=description)


def _labels(given: list[str] | None) -> str | None:
    return None if given is None else ",".join(given)


def _status(arguments: Sequence[str]) -> None:
    from ryzen_agent import status

    parser = _Parser(prog="ryzen-agent status", allow_abbrev=False)
    parser.add_argument("--run-dir", type=Path, help="run directory of the agent (default as the agent's)")
    parser.add_argument("--json", action="store_true", help="one JSON object, for tools")
    given = parser.parse_args(arguments)
    raise SystemExit(status.show(given.run_dir, given.json))


def _scan_kmsg(arguments: Sequence[str]) -> None:
    from ryzen_agent.health.kernel_log import command

    parser = _Parser(prog="ryzen-agent scan-kmsg", allow_abbrev=False)
    parser.add_argument(
        "file", metavar="FILE|-", help="kernel log as dmesg, the journal or /dev/kmsg gives it; - is stdin"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a finding")
    given = parser.parse_args(arguments)
    raise SystemExit(command.scan(given.file, given.json, sys.stdout))


if __name__ == "__main__":
    main()
