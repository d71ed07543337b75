"""`ryzen-lab trial | demo | bench`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from ryzen_lab.bench import (
    beat,
    coordinator,
    document,
    environments,
    footprint,
    hang,
    overhead,
    peers,
    race_plot,
    race_table,
    warm,
)
from ryzen_lab.bench.race import Race, command_line, in_words, parse_faults
from ryzen_lab.bench.race import run as run_race
from ryzen_lab.demo import demo as tell
from ryzen_lab.errors import LabError, UsageError
from ryzen_lab.settings import TrialSettings
from ryzen_lab.soak import Soak, SoakSettings, writer
from ryzen_lab.summary import table
from ryzen_lab.trial import run_trials
from ryzen_protos.settings import SettingsError, fail, load

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Result = TypeVar("Result")


@app.callback()
def _lab() -> None:
    """A whole training cluster on this machine, faults injected, stages timed."""


@app.command()
def trial(
    nodes: Annotated[int | None, typer.Option(help="Nodes of the job (default 2).")] = None,
    ranks_per_node: Annotated[int | None, typer.Option(help="Ranks on each (default 2).")] = None,
    fault: Annotated[str | None, typer.Option(help="Kind, or two with a comma (default none).")] = None,
    fault_rank: Annotated[str | None, typer.Option(help="Rank to strike, or two (default random).")] = None,
    fault_node: Annotated[str | None, typer.Option(help="Node to strike: node-1 or 1 (default random).")] = None,
    xid: Annotated[str | None, typer.Option(help="Of the kind xid: 31, or 31,79 for two (default 79).")] = None,
    flip: Annotated[
        str | None, typer.Option(help="Of the kind bitflip: weight, activation, gradient or reduced-gradient.")
    ] = None,
    flip_probability: Annotated[float | None, typer.Option(help="It flips with this in each step (once).")] = None,
    at_step: Annotated[int | None, typer.Option(help="Strike after this step (default random).")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the whole run (default 100).")] = None,
    spares: Annotated[int | None, typer.Option(help="Nodes beyond --nodes (default 0).")] = None,
    min_nodes: Annotated[int | None, typer.Option(help="The job may shrink to this (default --nodes).")] = None,
    rdzv: Annotated[str | None, typer.Option(help="ryzen or c10d, the stock baseline.")] = None,
    bare: Annotated[bool | None, typer.Option("--bare", help="With c10d: torchrun alone, no agents.")] = None,
    cold: Annotated[bool | None, typer.Option("--cold", help="Ranks are fresh interpreters, none is forked.")] = None,
    return_after: Annotated[float | None, typer.Option(help="Seconds until what was killed is back.")] = None,
    script: Annotated[str | None, typer.Option(help="Any training script; its arguments follow --.")] = None,
    auto: Annotated[bool | None, typer.Option("--auto", help="The script runs below ryzen_trainer.auto.")] = None,
    compare: Annotated[bool | None, typer.Option(help="Find out whether digests of a script compare.")] = None,
    stall_floor_s: Annotated[float | None, typer.Option(help="The coordinator's RYZEN_STALL_FLOOR_S.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the moment and the victim.")] = None,
    patience_s: Annotated[float | None, typer.Option(help="Cut off what has not recovered by then.")] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Limit of the whole trial (default 300).")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="So many trials; OUT has one line of JSON for each.")] = 1,
    logs: Annotated[Path | None, typer.Option(help="Keep all logs in this folder.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with these options.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Result; - is the terminal.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="After --: arguments of the script.")] = None,
) -> None:
    """Run one training job on a cluster of this machine, strike it, and measure."""
    flags = {key: value for key, value in locals().items() if key not in ("json_", "config", "arguments", "repeat")}
    try:
        settings = load(TrialSettings, {**flags, "arguments": tuple(arguments or ()) or None}, config)
        results = _run(_collect(run_trials(settings, repeat), repeat, json_))
    except (SettingsError, UsageError) as error:
        fail(str(error))
    except LabError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if repeat > 1:
        typer.echo(table(results), err=True)
    raise typer.Exit(1 if any("error" in each for each in results) else 0)


async def _collect(results: AsyncIterator[dict[str, Any]], repeat: int, out: Path | None) -> list[dict[str, Any]]:
    """Write each result as it comes: one object, or a line for each of several."""
    collected = []
    to_file = out is not None and str(out) != "-"
    with out.open("w") if out is not None and to_file else nullcontext(sys.stdout) as file:
        async for result in results:
            file.write(json.dumps(result, indent=2 if repeat == 1 else None) + "\n")
            file.flush()
            collected.append(result)
            if "error" in result:
                typer.echo(result["error"], err=True)
    return collected


@app.command()
def demo(
    fault: Annotated[str, typer.Option(help="Kind of fault.")] = "stop",
    steps: Annotated[int, typer.Option(help="Steps of each of the two runs.")] = 200,
    nodes: Annotated[int, typer.Option(help="Nodes of the job.")] = 2,
    ranks_per_node: Annotated[int, typer.Option(help="Ranks on each.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Of the moment and the victim.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep the logs of the struck run in this folder.")] = None,
) -> None:
    """Strike a training run, tell live what happens, and compare its parameters with an undisturbed run's."""
    try:
        settings = load(TrialSettings, dict(locals()))
        equal = _run(tell(settings, Console()))
    except (SettingsError, UsageError) as error:
        fail(str(error))
    except LabError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if equal else 1)


@app.command()
def soak(
    minutes: Annotated[float | None, typer.Option(help="How long (default 60).")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes of the job (default 2).")] = None,
    ranks_per_node: Annotated[int | None, typer.Option(help="Ranks on each (default 2).")] = None,
    evaluation_every_s: Annotated[float | None, typer.Option(help="Between two evaluations (default 300).")] = None,
    evaluation_s: Annotated[float | None, typer.Option(help="Seconds of each; 0: none (default 30).")] = None,
    contention: Annotated[int | None, typer.Option(help="Most busy processes beside it (default 2).")] = None,
    stall_floor_s: Annotated[float | None, typer.Option(help="The coordinator's RYZEN_STALL_FLOOR_S.")] = None,
    script: Annotated[str | None, typer.Option(help="A script that ends only later; its arguments follow --.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the moments.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep all logs in this folder.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Written anew each minute.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="After --: arguments of the script.")] = None,
) -> None:
    """Train without a fault under unpleasant conditions; the right number of actions is none (else exit 1)."""
    flags = {key: value for key, value in locals().items() if key not in ("json_", "arguments")}
    try:
        settings = load(SoakSettings, {**flags, "arguments": tuple(arguments or ()) or None})
        write = writer(json_)
        result = _run(Soak(settings, write).run())
    except (SettingsError, UsageError) as error:
        fail(str(error))
    except LabError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    write(result)
    if json_ is None or str(json_) == "-":
        typer.echo(json.dumps(result, indent=2))
    raise typer.Exit(1 if result["false_actions"] else 0)


class Part(StrEnum):
    """What there is to measure."""

    BEAT = "beat"
    AGENT = "agent"
    PEERS = "peers"
    HANG = "hang"
    COORDINATOR = "coordinator"
    WARM = "warm"
    OVERHEAD = "overhead"


@app.command()
def bench(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure (default all).")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Trials of each row, deaths for the coordinator.")] = 3,
    peers_: Annotated[str | None, typer.Option("--peers", help="Beside Ryzen (default torchrun).")] = None,
    faults: Annotated[str | None, typer.Option(help="For the peers (default kill,stop,node-kill).")] = None,
    patience_s: Annotated[float, typer.Option(min=1, help="For the peers: later is not recovered.")] = 100.0,
    seed: Annotated[int, typer.Option(help="For the peers: of moments and victims.")] = 1,
    json_: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="For the peers: every trial.")] = None,
    from_: Annotated[
        list[Path] | None, typer.Option("--from", help="For hang and peers: results of trials that were run already.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=2, help="Agents for the coordinator.")] = 2048,
    seconds: Annotated[float, typer.Option(min=1, help="Window for the coordinator.")] = 60.0,
    out: Annotated[Path, typer.Option(help="Document whose tables are made anew.")] = Path("docs/benchmarks.md"),
) -> None:
    """Measure what Ryzen costs and what it saves; writes the tables into docs/benchmarks.md."""
    of_peers = peers_ is not None or faults is not None or json_ is not None
    parts = parts or ([Part.PEERS] if of_peers else list(Part))
    if of_peers and Part.PEERS not in parts:
        fail(f"options --peers, --faults and --json are for the part {Part.PEERS.value!r}")
    try:
        race = Race(
            peers.parse(peers_ if peers_ is not None else "torchrun"),
            parse_faults(faults if faults is not None else "kill,stop,node-kill"),
            repeat, patience_s, seed,
        )  # fmt: skip
        how = Measuring(repeat, out, from_ or [], nodes, seconds, race, json_)
        for part in parts:
            typer.echo(f"{_measured(part, how)}\n")
    except UsageError as error:
        fail(str(error))
    except LabError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def install_peers(
    names: Annotated[list[str] | None, typer.Argument(help="Which (default all).")] = None,
) -> None:
    """Install the tools of `bench --peers` into environments of their own below .peers; exit 1 if one could not be."""
    try:
        chosen = peers.parse(",".join(names or peers.PEERS))
    except UsageError as error:
        fail(str(error))
    failed = False
    for peer in {peer.name: peer for peer, _variant in chosen}.values():
        why = environments.install(peer, lambda line: typer.echo(line, err=True))
        failed = failed or bool(why)
        typer.echo(f"{peer.name}: {why or peer.missing() or 'ready'}")
    raise typer.Exit(1 if failed else 0)


@dataclass(frozen=True)
class Measuring:
    """How to measure, and where the table goes."""

    repeat: int
    out: Path
    results: list[Path]
    nodes: int
    seconds: float
    race: Race
    json: Path | None


def _measured(part: Part, how: Measuring) -> str:
    """Measure, write the table into the document, return it."""
    options = {
        Part.WARM: f" --repeat {how.repeat}",
        Part.OVERHEAD: f" --repeat {how.repeat}",
        Part.HANG: "".join(f" --from {each.name}" for each in how.results) or f" --repeat {how.repeat}",
        Part.COORDINATOR: f" --nodes {how.nodes} --seconds {how.seconds:.0f} --repeat {how.repeat}",
    }
    command = f"ryzen-lab bench {part.value}{options.get(part, '')}"

    def write(table: str) -> str:
        document.write(how.out, part.value, table)
        return table

    if part is Part.BEAT:
        done = subprocess.run([sys.executable, "-m", beat.__name__], check=True, capture_output=True, text=True)
        return write(document.beat_table(json.loads(done.stdout), command))
    if part is Part.WARM:
        return write(warm.table(warm.measure_apart(how.repeat), command))
    if part is Part.OVERHEAD:
        return write(overhead.table(_run(overhead.measure(how.repeat)), command))
    if part is Part.AGENT:
        return write(document.footprint_table(_run(footprint.measure()), command))
    if part is Part.COORDINATOR:
        return write(coordinator.table(_run(coordinator.measure(how.nodes, how.seconds, how.repeat)), command))
    if part is Part.HANG:
        results = hang.read(how.results) if how.results else _run(hang.measure(how.repeat))
        return write(hang.table(results, command))
    return write(_raced(how))


def _raced(how: Measuring) -> str:
    """The race or the result of an earlier one: plot beside the document, and the table."""
    keep = writer(how.json)

    def told(result: dict[str, Any]) -> None:
        keep(result)
        typer.echo(in_words(result["trials"][-1]), err=True)

    if how.results:
        results = [race_table.read(each) for each in how.results]
    else:
        results = [_run(run_race(how.race, command_line(how.race, how.json), told))]
        keep(results[0])
    sections = []
    for number, result in enumerate(results):
        plot = how.out.with_name(race_plot.NAME if number == 0 else f"{number + 1}-{race_plot.NAME}")
        try:
            race_plot.write(result, plot)
        except LabError as error:
            typer.echo(str(error), err=True)
        sections.append(race_table.document(result, plot.name if plot.exists() else None))
    return "\n\n".join(sections)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end. SIGINT, SIGTERM and SIGHUP cancel it, so that everything is cleaned up first."""

    async def cancellable() -> Result:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise LabError("interrupted") from None


def main() -> None:
    app()


if __name__ == "__main__":
    main()
