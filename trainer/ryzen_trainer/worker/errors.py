"""Why a rank is started cold. Not in `ryzen_trainer.errors`: the stub has no time for a larger tree.

Exception
├── Cold       this rank starts as a fresh interpreter; the text says why, in half a line
└── WireError  a message between stub and nursery is not one
"""

from __future__ import annotations


class Cold(Exception):  # noqa: N818 - it is no error, the rank starts all the same
    """Start a fresh interpreter instead. The text says why."""


class WireError(ValueError):
    """A message is too long, cut short or not well formed."""
