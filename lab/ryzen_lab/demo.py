"""`ryzen-lab demo`: one fault in a real training run, told live, and the proof that nothing was lost by it.

Two runs of the reference trainer with the same seed: one struck, one left alone. Their final parameters must be
the same bit for bit.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console

from ryzen_lab.settings import TrialSettings
from ryzen_lab.story import Story, stage_table
from ryzen_lab.trial import Trial


async def demo(settings: TrialSettings, console: Console) -> bool:
    """Run both; whether the digests are equal and the job ended well. Raises LabError."""
    ranks = settings.nodes * settings.ranks_per_node
    with Story(console, settings.steps) as story:
        story.say(
            f"a GPT on {settings.nodes} nodes x {settings.ranks_per_node} ranks: one coordinator, "
            f"{settings.nodes} agents, {settings.nodes} torchruns, {ranks} ranks, all on this machine"
        )
        struck = await Trial(settings, [story.hear]).run()
    console.print(stage_table(struck))
    console.print(f"\nthe same run again, undisturbed ({settings.steps} steps) ...")
    alone = await Trial(settings.model_copy(update={"fault": "none"})).run()
    return _compare(console, struck, alone)


def _compare(console: Console, struck: dict[str, Any], alone: dict[str, Any]) -> bool:
    equal = struck["state_digest"] is not None and struck["state_digest"] == alone["state_digest"]
    console.print(
        f"parameters after step {struck['final_step']}, struck       {struck['state_digest']}", soft_wrap=True
    )
    console.print(f"parameters after step {alone['final_step']}, undisturbed  {alone['state_digest']}", soft_wrap=True)
    if equal:
        console.print("[bold green]equal bit for bit[/bold green]")
    else:
        console.print("[bold red]they differ[/bold red]")
    return equal and struck["exit_code"] == 0 and alone["exit_code"] == 0
