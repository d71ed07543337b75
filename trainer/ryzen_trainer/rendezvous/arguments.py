"""What torchrun was started with, checked once at its start; every mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from torch.distributed.elastic.rendezvous import RendezvousParameters

from ryzen_protos import run_dir

USAGE_EXIT_CODE = 2
RESTARTS_ADVISED = 1000
"""The coordinator keeps the real budget; torchrun's own count must only not be in the way."""

AGENT_WAIT_S = 10.0
WORKER = "ryzen-worker"
_OWN_OPTIONS = {"agent_wait", "timeout", "is_host", "read_timeout", "local_addr"}


@dataclass(frozen=True, slots=True)
class Arguments:
    """One torchrun's request. `max_restarts` is None where torchrun was not started from its command line."""

    run_id: str
    min_nodes: int
    max_nodes: int
    ranks_per_node: int
    max_restarts: int | None
    agent_wait_s: float = AGENT_WAIT_S
    worker: tuple[str, ...] = ()
    """The command of local rank 0 where that is `ryzen-worker ...`; empty where ranks are not forked."""
    options: dict[str, str] = field(default_factory=dict)


def read(parameters: RendezvousParameters) -> Arguments:
    """Gather and check. Ends torchrun with exit code 2 and one line where it could not work."""
    torchrun = _command_line()
    if parameters.run_id == "none" and parameters.max_nodes > 1:
        fail('rendezvous id "none" cannot tell two jobs on several nodes apart: pass --rdzv-id=NAME')
    try:
        run_dir.check_name("--rdzv-id", parameters.run_id)
        wait_s = float(parameters.config.get("agent_wait", AGENT_WAIT_S))
    except ValueError as error:
        fail(str(error))
    options = {key: str(value) for key, value in parameters.config.items() if key not in _OWN_OPTIONS}
    return Arguments(
        run_id=parameters.run_id,
        min_nodes=parameters.min_nodes,
        max_nodes=parameters.max_nodes,
        ranks_per_node=_ranks_per_node(torchrun),
        max_restarts=torchrun.max_restarts if torchrun else None,
        agent_wait_s=wait_s,
        worker=_worker(torchrun),
        options=options,
    )


def advice(arguments: Arguments) -> str | None:
    """What works, but not as well as it could, in one line."""
    if arguments.max_restarts is None or arguments.max_restarts >= RESTARTS_ADVISED // 10:
        return None
    return (
        f"--max-restarts={arguments.max_restarts}: after {arguments.max_restarts} crashes this node's torchrun "
        f"ends the job; pass --max-restarts={RESTARTS_ADVISED}, the coordinator keeps the restart budget"
    )


def say(message: str) -> None:
    """One line to the user, on torchrun's standard error."""
    sys.stderr.write(f"[ryzen] {message}\n")
    sys.stderr.flush()


def fail(message: str) -> NoReturn:
    say(message)
    raise SystemExit(USAGE_EXIT_CODE)


def _command_line() -> argparse.Namespace | None:
    """torchrun's own arguments, read with torchrun's own parser (PET_* environment included)."""
    program = Path(sys.argv[0])
    if program.name != "torchrun" and program.parts[-3:] != ("torch", "distributed", "run.py"):
        return None
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(sys.argv[1:])


def _worker(torchrun: argparse.Namespace | None) -> tuple[str, ...]:
    if torchrun is None or torchrun.run_path or not torchrun.no_python:
        return ()
    if Path(torchrun.training_script).name != WORKER:
        return ()
    from torch.distributed.elastic.utils import macros

    return (torchrun.training_script, *macros.substitute(list(torchrun.training_script_args), "0"))


def _ranks_per_node(torchrun: argparse.Namespace | None) -> int:
    if torchrun is None:
        return 1
    from torch.distributed.run import determine_local_world_size

    return int(determine_local_world_size(torchrun.nproc_per_node))
