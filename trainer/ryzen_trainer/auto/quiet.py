"""Whoever only looks on must not be the reason why a training ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


def quietly(function: Callable[..., None], give_up: Callable[[], None]) -> Callable[..., None]:
    """Calls `function`. Should it raise, which is a fault of ours, that is said and `give_up` called; no more."""

    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001 - the script has not asked for us, and goes on whatever we meet in it
            give_up()
            log.warning("ryzen_trainer.auto watches no longer: %s: %s", type(error).__name__, error)

    return call
