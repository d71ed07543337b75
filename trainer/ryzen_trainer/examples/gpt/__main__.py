"""`torchrun ... -m ryzen_trainer.examples.gpt --config FILE [--set group.key=value ...]`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from ryzen_trainer import attach
from ryzen_trainer.errors import CheckpointError, TrainerError
from ryzen_trainer.examples.gpt.config import load
from ryzen_trainer.starting import quick_imports

USAGE_EXIT_CODE = 2


def main() -> None:
    """Exit code 2 and one line for whatever the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m ryzen_trainer.examples.gpt", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a file like those in configs/")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="instead of the file's")
    options = parser.parse_args()
    for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0")):
        os.environ.setdefault(name, alone)  # started without torchrun: a world of one
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run = attach()
    try:
        config = load(options.config, options.set)
        with quick_imports():
            from ryzen_trainer.examples.gpt.training import train
        last = train(config, run)
    except TrainerError as error:
        run.failed(type(error).__name__, str(error))  # the agent tells why, for the exit code says little
        if _tells(error):
            sys.stderr.write(f"{error}\n")
        raise SystemExit(USAGE_EXIT_CODE) from None
    if os.environ["RANK"] == "0":
        logging.info("%s", last)


def _tells(error: TrainerError) -> bool:
    """One line a node for what is wrong everywhere, and one in all for what struck a single rank."""
    if isinstance(error, CheckpointError):
        return os.environ["RANK"] == str(error.rank)
    return os.environ.get("LOCAL_RANK", "0") == "0"


if __name__ == "__main__":
    main()
