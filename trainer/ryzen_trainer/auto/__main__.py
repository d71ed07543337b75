"""`python -m ryzen_trainer.auto [-m MODULE | SCRIPT] [ARGUMENT...]`. Exit code 2 and one line for a wrong call."""

from __future__ import annotations

import sys

from ryzen_trainer.auto import script
from ryzen_trainer.auto.watcher import watch

USAGE = "python -m ryzen_trainer.auto [-m MODULE | SCRIPT] [ARGUMENT...]"
USAGE_EXIT_CODE = 2


def main() -> None:
    """The exit code is the script's."""
    words = sys.argv[1:]
    as_module = words[:1] == ["-m"]
    words = words[1:] if as_module else words
    if not words or words[0].startswith("-"):
        given = f"{words[0]} is not allowed" if words else "nothing to run"
        sys.stderr.write(f"ryzen_trainer.auto: {given}: {USAGE}\n")
        raise SystemExit(USAGE_EXIT_CODE)
    if as_module:
        watch()
        script.run_module(words[0], words[1:])
    try:
        source = script.read(words[0])
    except (OSError, ValueError) as error:
        sys.stderr.write(f"ryzen_trainer.auto: {words[0]}: {getattr(error, 'strerror', None) or error}\n")
        raise SystemExit(USAGE_EXIT_CODE) from None
    watch()
    script.run(source, words[0], words[1:])


if __name__ == "__main__":
    main()
