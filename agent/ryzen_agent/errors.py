"""What can go wrong in the agent, and what to do about it.

    AgentError
    ├── RunDirInUseError          another agent serves this run directory
    ├── CoordinatorRefusedError   the coordinator answered and said no; a quick retry cannot help
    ├── HandlerRefusedError       this torchrun cannot be served; torchrun's user gets the line
    └── CoordinatorLostError      no answer, or the stream broke; retry

A wrong option is `ryzen_protos.settings.SettingsError`, a bad run directory `ryzen_protos.run_dir.RunDirError`.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of all; the text is one line for the user."""


class RunDirInUseError(AgentError):
    """Another agent serves this run directory."""


class CoordinatorRefusedError(AgentError):
    """The coordinator said no (token, version); its own words are the text."""


class CoordinatorLostError(AgentError):
    """There is no stream to the coordinator now."""


class HandlerRefusedError(AgentError):
    """This torchrun cannot be served; the text goes to its user."""
