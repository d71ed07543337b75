"""Coverage-guided fuzzing of the kernel log's parser: `python scripts/fuzz_kmsg.py [-runs=N] [FOLDER]`.

Needs `pip install atheris`. Options are libFuzzer's; an input that raises, or a field beyond its bound, is written to
`crash-*` in the current folder. A line is an input; newlines in it make several, read by one finder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ryzen_agent.health"]):
    from ryzen_agent.health.kernel_log.finder import Finder
    from ryzen_agent.health.kernel_log.patterns import FAMILIES
    from ryzen_agent.health.model import MESSAGE_CHARS

NOW_UNIX_S = 1.8e9


def look(data: bytes) -> None:
    """Raises AssertionError, or whatever the parser should not."""
    finder = Finder()
    for line in data.split(b"\n"):
        seen = finder.look(line, NOW_UNIX_S)
        finding = seen.finding if seen is not None else None
        if finding is not None:
            texts = (finding.message, finding.device, finding.unit, finding.pci, finding.process or "")
            assert all(len(each) <= MESSAGE_CHARS and each.isprintable() for each in texts), finding  # noqa: S101


def main() -> None:
    """Begins with every example line, in each form of a record."""
    with tempfile.TemporaryDirectory() as corpus:
        examples = [each.encode() for family in FAMILIES for each in family.examples]
        for at, line in enumerate(examples):
            Path(corpus, f"{at}-plain").write_bytes(line)
            Path(corpus, f"{at}-raw").write_bytes(b"3,1,5000000,-;" + line)
        atheris.Setup([*sys.argv, corpus], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
