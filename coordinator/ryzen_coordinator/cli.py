"""`ryzen-coordinator`: parse, build, call one function."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from google.protobuf.message import Message
from rich.console import Console
from rich.live import Live

from ryzen_coordinator import render, render_ledger, replay
from ryzen_coordinator.client import Client
from ryzen_coordinator.errors import CoordinatorError, RemoteError
from ryzen_coordinator.inputs.found import Replayed, Window, lines
from ryzen_coordinator.plain import plain
from ryzen_coordinator.server import app as server
from ryzen_coordinator.settings import ClientSettings, ServeSettings
from ryzen_protos.settings import SettingsError, fail, load
from ryzen_telemetry import logs

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

_FAILED = 1

Config = Annotated[Path | None, typer.Option(help="YAML file with any of these options.")]
Coordinator = Annotated[str | None, typer.Option(help="HOST:PORT of the coordinator [RYZEN_COORDINATOR].")]
Token = Annotated[str | None, typer.Option(help="Operator or read token [RYZEN_TOKEN].")]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]


@cli.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = None,
    journal: Annotated[Path | None, typer.Option(help="The journal's file, on a local disk.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the node, operator and read tokens.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Folder for the journal and the tokens.")] = None,
    config: Config = None,
    replay_bytes: Annotated[str | None, typer.Option(help="Disk for the log of inputs; 0 keeps none.")] = None,
    json_logs: Annotated[bool | None, typer.Option(help="Log lines as JSON; by default unless on a terminal.")] = None,
    otlp_endpoint: Annotated[
        str | None, typer.Option(help="URL of an OTLP receiver [OTEL_EXPORTER_OTLP_ENDPOINT].")
    ] = None,
    otlp_protocol: Annotated[str | None, typer.Option(help="grpc or http/protobuf; by default by the port.")] = None,
    metrics_interval_s: Annotated[str | None, typer.Option(help="Between two exports of metrics.")] = None,
    prometheus: Annotated[str | None, typer.Option(help="HOST:PORT, or PORT on loopback, to be scraped.")] = None,
    telemetry_folder: Annotated[Path | None, typer.Option(help="Folder for events and spans as JSON lines.")] = None,
    telemetry_file_bytes: Annotated[str | None, typer.Option(help="Of each such file; four older ones stay.")] = None,
    lease_s: Annotated[str | None, typer.Option(help="Silence after which a node is suspect.")] = None,
    form_wait_s: Annotated[str | None, typer.Option(help="How long the first world waits beyond MIN nodes.")] = None,
    hint_wait_s: Annotated[str | None, typer.Option(help="How long it waits for a --node-rank below MAX.")] = None,
    rejoin_wait_s: Annotated[str | None, typer.Option(help="How long a world waits for a survivor.")] = None,
    gap_factor: Annotated[str | None, typer.Option(help="A stall begins at this x the longest silence.")] = None,
    gap_margin_s: Annotated[str | None, typer.Option(help="... plus this.")] = None,
    gap_unknown_s: Annotated[str | None, typer.Option(help="The limit while nothing is learned.")] = None,
    stall_floor_s: Annotated[str | None, typer.Option(help="The limit for jobs without progress.")] = None,
    restart_budget: Annotated[str | None, typer.Option(help="Restarts before a job is given up.")] = None,
    fruitless_generations: Annotated[str | None, typer.Option(help="Generations without progress before.")] = None,
    grow: Annotated[str | None, typer.Option(help="checkpoint, now or never.")] = None,
    hang_mode: Annotated[str | None, typer.Option(help="act, advise or off.")] = None,
    node_loss_mode: Annotated[str | None, typer.Option(help="act, advise or off.")] = None,
    health_mode: Annotated[str | None, typer.Option(help="act, advise or off.")] = None,
    health_evict_on: Annotated[str | None, typer.Option(help="Xids that evict at once: 13,31,79.")] = None,
    health_evict_share: Annotated[str | None, typer.Option(help="Of all nodes, most evictions an hour.")] = None,
) -> None:
    """Run the coordinator until SIGTERM."""
    flags = {name: value for name, value in locals().items() if name != "config"}
    settings = _settings(ServeSettings, flags, config)
    logs.set_up("ryzen-coordinator", settings.json_logs)
    try:
        uvloop.run(server.serve(settings))  # a tenth less for each report
    except (CoordinatorError, SettingsError) as error:
        fail(str(error))


@cli.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show each change.")] = False,
    json: Json = False,
    coordinator: Coordinator = None,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """Jobs and nodes."""
    with _client(coordinator, token, token_file) as client:
        if not watch:
            _show(client.status(), json, render.status)
        elif json:
            for message in client.watch():
                _show(message, json, render.status)
        else:
            with Live(refresh_per_second=4) as live:
                for message in client.watch():
                    live.update(render.status(message))


@cli.command()
def nodes(
    json: Json = False, coordinator: Coordinator = None, token: Token = None, token_file: TokenFile = None
) -> None:
    """Every node and its phase."""
    with _client(coordinator, token, token_file) as client:
        _show_all(client.status().nodes, json, render.nodes)


@cli.command()
def incidents(
    id: Annotated[int | None, typer.Argument(help="Show this one whole.")] = None,
    run_id: Annotated[str, typer.Option(help="Of this job only.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 100,
    json: Json = False,
    coordinator: Coordinator = None,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """What happened, newest first; with an ID: one incident with evidence and timeline."""
    with _client(coordinator, token, token_file) as client:
        found = client.incidents(id, run_id, limit)
        if id is not None:
            _show(found[0], json, render.incident)
        else:
            _show_all(found, json, render.incidents)


@cli.command()
def ledger(
    job: Annotated[str, typer.Argument(help="Run id: show its nodes and incidents too.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: GPU-seconds of jobs, nodes and incidents.")] = False,
    json: Json = False,
    coordinator: Coordinator = None,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """Where the GPU-hours have gone: productive, checkpoint, lost steps, detection, recovery, waiting, idle."""
    if as_csv and json:
        fail("--csv and --json: one of the two")
    with _client(coordinator, token, token_file) as client:
        found = client.ledger(job)
        if as_csv:
            sys.stdout.write(render_ledger.as_csv(found))
        elif job and not json:
            for each in found.jobs:
                Console().print(render_ledger.job(each))
        else:
            _show(found, json, render_ledger.jobs)


@cli.command()
def evict(
    node: str,
    reason: Annotated[str, typer.Option(help="Why, for those who look later.")],
    json: Json = False,
    coordinator: Coordinator = None,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """Take a node out of every world until it is readmitted."""
    with _client(coordinator, token, token_file) as client:
        _reply(client.evict(node, reason), json)


@cli.command()
def readmit(
    node: str,
    json: Json = False,
    coordinator: Coordinator = None,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """Let an evicted node in again."""
    with _client(coordinator, token, token_file) as client:
        _reply(client.readmit(node), json)


@cli.command("replay")
def replay_command(
    journal: Annotated[Path, typer.Argument(help="The journal's file, or one segment of its log of inputs.")],
    json: Json = False,
    from_: Annotated[str | None, typer.Option("--from", help="Show from here: ISO 8601 or seconds since 1970.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop here.")] = None,
) -> None:
    """Make every recorded decision again and compare. Exit code: 0 identical, 1 one differs, 2 not readable."""
    try:
        window = Window(instant(from_, "--from", float("-inf")), instant(until, "--until", float("inf")))
        found = replay.replay(journal, window)
    except (ValueError, CoordinatorError) as error:
        fail(str(error))
    _print_replayed(found, json)
    if not found.identical:
        raise SystemExit(_FAILED)


def main() -> None:
    """The console script."""
    try:
        cli()
    except RemoteError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(_FAILED) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def instant(text: str | None, option: str, default: float) -> float:
    """Seconds since 1970 of ISO 8601 (UTC unless it says otherwise) or of a number. Raises ValueError."""
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"option {option}: {text!r} is neither ISO 8601 nor seconds since 1970") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _print_replayed(found: Replayed, as_json: bool) -> None:
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        print(json.dumps({**asdict(found), "identical": found.identical}), flush=True)
    else:
        for line in lines(found):
            print(line)


def _settings(model: Any, flags: dict[str, Any], config: Path | None) -> Any:
    try:
        return load(model, flags, config)
    except SettingsError as error:
        fail(str(error))


def _client(coordinator: str | None, token: str | None, token_file: Path | None) -> Client:
    flags = {"coordinator": coordinator, "token": token, "token_file": token_file}
    return Client(_settings(ClientSettings, flags, None))


def _show(message: Message, as_json: bool, table: Any) -> None:
    if as_json:
        print(json.dumps(plain(message)), flush=True)
    else:
        Console().print(table(message))


def _show_all(messages: Iterable[Message], as_json: bool, table: Any) -> None:
    if as_json:
        print(json.dumps([plain(message) for message in messages]), flush=True)
    else:
        Console().print(table(messages))


def _reply(reply: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(plain(reply)))
    else:
        typer.echo(reply.message, err=not reply.ok)
    if not reply.ok:
        raise SystemExit(_FAILED)
