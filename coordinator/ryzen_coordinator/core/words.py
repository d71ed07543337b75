"""Lists in sentences that people read: short, however many there are."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 8


def few(items: Iterable[int] | Iterable[str]) -> str:
    """The first eight in the order given, and how many more there are."""
    told = [str(each) for each in items]
    more = f" and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return ", ".join(told[:_MOST]) + more
