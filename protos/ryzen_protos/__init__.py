"""All that two processes of Ryzen must agree on: messages, the beat page, the run directory, settings order."""

__version__ = "0.1.0"

PROTOCOL = 3
"""Grows when agent, coordinator and handler of different versions would misunderstand each other."""

DO_NOT_REQUEUE_EXIT_CODE = 93
"""torchrun's exit code when a restart cannot help; the same figure nvidia-resiliency-ext uses, so that
job scripts that know it keep working."""
