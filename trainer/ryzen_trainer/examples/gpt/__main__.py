"""`torchrun ... -m ryzen_trainer.examples.gpt --config FILE [--set group.key=value ...]`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from ryzen_trainer import attach
from ryzen_trainer.errors import TrainerError
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
    try:
        config = load(options.config, options.set)
        run = attach()
        with quick_imports():
            from ryzen_trainer.examples.gpt.training import train
        last = train(config, run)
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(USAGE_EXIT_CODE) from None
    if os.environ["RANK"] == "0":
        logging.info("%s", last)


if __name__ == "__main__":
    main()
