"""What an Xid means and what its maker would have done about it: `data/xid.csv`, read once.

Numbers and mnemonics are those of the driver's nverror.h (open-gpu-kernel-modules 595.45.04, MIT; 152, 153 and those
it lacks: NVIDIA's Xid catalogue); classes and actions follow the catalogue's immediate action; the words are ours.

    class        app          the application's doing, the GPU is well       restart_app, ignore
                 hw           the GPU, its memory, its links                 reset_gpu, reboot, drain_service
                 hw-info      hardware that coped: worth counting            watch_repeat
                 sw, info     driver or firmware                             ignore, watch_repeat
                 sympathetic  follows from another fault                     follow_other
                 meta         says more about another Xid                    follow_other
                 unused       not on Ampere and newer                        watch_repeat
                 unknown      not in the table: told, never acted on         watch_repeat

Two codes cannot be settled by number: 154, in which the driver itself names the action, and 144 to 150 (NVLink 5),
which say in their text whether they are fatal. `patterns/xid.py` reads the text; until then they are `watch_repeat`.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, get_args

from ryzen_agent.health.model import Action, Event

if TYPE_CHECKING:
    from collections.abc import Mapping

NVLINK5 = range(144, 151)
RECOVERY_ACTION = 154

BY_TEXT = frozenset({"decode_nvlink5", "follow_154"})
"""Words of the file that the line's text has to resolve."""


class XidMeaning(NamedTuple):
    mnemonic: str
    fault_class: str
    action: Action
    description: str


UNKNOWN = XidMeaning("", "unknown", "watch_repeat", "not in the table of Xids")


@cache
def table() -> Mapping[int, XidMeaning]:
    """Xid -> meaning. Raises ValueError with the line where the packaged file is damaged."""
    text = resources.files("ryzen_agent.health").joinpath("data/xid.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return MappingProxyType({int(row["xid"]): _meaning(row) for row in rows})


def meaning(xid: int) -> XidMeaning:
    """Of a number that may be newer than this table."""
    return table().get(xid, UNKNOWN)


def classified(event: Event) -> Event:
    """An Xid of which only the number is known; 154 has brought its action with it."""
    its = meaning(event.code)
    action = event.action if event.code == RECOVERY_ACTION else its.action
    return replace(event, fault_class=its.fault_class, action=action)


def _meaning(row: dict[str, str]) -> XidMeaning:
    return XidMeaning(row["mnemonic"], row["class"], _action(row["action"]), row["description"])


def _action(word: str) -> Action:
    if word in BY_TEXT:
        return "watch_repeat"
    for known in get_args(Action):
        if word == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"data/xid.csv: {word!r} is no action: {', '.join(get_args(Action))}")
