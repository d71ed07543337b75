"""All that two processes of Ryzen must agree on: messages, the beat page, the run directory, settings order."""

__version__ = "0.1.0"

PROTOCOL = 3
"""Grows when agent and coordinator of different versions would misunderstand each other."""

LOCAL_PROTOCOL = 2
"""The same for an agent and the handlers in its node's torchruns, which outlive an agent that is upgraded."""

DO_NOT_REQUEUE_EXIT_CODE = 93
"""torchrun's exit code when a restart cannot help; the same figure nvidia-resiliency-ext uses, so that
job scripts that know it keep working."""
