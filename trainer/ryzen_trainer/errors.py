"""What the trainer library raises on purpose. Each text is one line that says what to do.

TrainerError
├── ConfigError                a setting of the reference trainer is wrong
├── BatchError                 the global batch cannot be divided over this world
└── CheckpointError
    ├── CheckpointFolderError  the folder is read-only, full or not a folder
    └── CheckpointMismatchError  a sound checkpoint is of another model or optimizer
"""

from __future__ import annotations


class TrainerError(Exception):
    """Base of all errors that this library declares."""


class ConfigError(TrainerError):
    """A setting is wrong; the text has one line for each, `source: key: what is wrong`."""


class BatchError(TrainerError):
    """The global batch cannot be kept with this number of ranks."""


class CheckpointError(TrainerError):
    """A checkpoint could not be written or read. Raised on all ranks; training may go on."""

    rank: int = 0
    """Who knows most of it: the lowest rank that it struck. The others refer to it."""


class CheckpointFolderError(CheckpointError):
    """The folder cannot be written (read-only, full, no folder)."""


class CheckpointMismatchError(CheckpointError):
    """The checkpoint is whole but does not fit the model or the optimizer."""
