"""Everything that goes wrong by name.

    CoordinatorError
    ├── JournalError      the journal cannot be opened, read or written
    ├── ReplayError       a log of inputs cannot be read
    ├── TokenError        a token file is missing, open to others or not a token file
    ├── ListenError       the address cannot be listened on
    └── RemoteError       the coordinator that was asked does not answer, or refuses

A command ends with the text as one line: it says what to do next.
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """Base of all."""


class JournalError(CoordinatorError):
    """The journal cannot be used."""


class ReplayError(CoordinatorError):
    """A log of inputs is not there, is damaged or is another version's."""


class TokenError(CoordinatorError):
    """Tokens cannot be used."""


class ListenError(CoordinatorError):
    """The address cannot be listened on."""


class RemoteError(CoordinatorError):
    """A coordinator does not answer or refuses."""
