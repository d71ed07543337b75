"""What can go wrong in a lab, in words.

LabError              the text is for people; commands print it and exit 1
  UsageError          an option is wrong: one line, exit 2
  NotStarted          the job did not get as far as its first step
  NeverHappened       something did not happen in time; carries the tails of the logs
"""

from __future__ import annotations


class LabError(Exception):
    """The trial could not be done or did not end as it should."""


class UsageError(LabError):
    """The options make no sense; nothing was started."""


class NotStarted(LabError):  # noqa: N818 - reads as what it says
    """Nothing was struck, for there was nothing to strike yet."""


class NeverHappened(LabError):  # noqa: N818 - reads as what it says
    """`what` was awaited for `waited_s` seconds in vain."""

    def __init__(self, what: str, waited_s: float, why: str = "") -> None:
        super().__init__(f"waited {waited_s:.0f} s for {what}, which never came{f' ({why})' if why else ''}")
        self.what = what
