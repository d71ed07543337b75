"""Prints what the agent recognises in the kernel's log, for docs/health.md: the code's own examples and the Xid table.

python scripts/kernel_log_table.py            as it stands between <!-- kernel log --> and <!-- /kernel log -->
python scripts/kernel_log_table.py --write    puts it there
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ryzen_agent.health import xid_table
from ryzen_agent.health.kernel_log.finder import find
from ryzen_agent.health.kernel_log.patterns import FAMILIES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "health.md"
EXAMPLE_CHARS = 110
_BETWEEN_MARKERS = re.compile(r"(?<=<!-- kernel log -->\n).*?(?=<!-- /kernel log -->)", re.DOTALL)


def tables() -> str:
    """Both tables."""
    return "\n".join((*_lines(), "", *_xids())) + "\n"


def _lines() -> Iterator[str]:
    yield "| line, for example | kind | class | action |"
    yield "|---|---|---|---|"
    for example in (each for family in FAMILIES for each in family.examples):
        finding = find(example)
        if finding is None:
            sys.exit(f"no pattern finds {example!r}")
        text = example if len(example) <= EXAMPLE_CHARS else example[:EXAMPLE_CHARS].rstrip() + " …"
        yield f"| `{text}` | `{finding.kind}` | {finding.fault_class} | `{finding.action}` |"


def _xids() -> Iterator[str]:
    """Codes by class and action; those that are not in use, or that only the text can tell, are left to the words."""
    codes = defaultdict(list)
    for xid, known in xid_table.table().items():
        if xid not in xid_table.NVLINK5 and xid != xid_table.RECOVERY_ACTION:
            codes[known.action, known.fault_class].append(xid)
    yield "| action | class | Xids |"
    yield "|---|---|---|"
    for (action, fault_class), xids in sorted(codes.items()):
        yield f"| `{action}` | {fault_class} | {_ranges(xids)} |"


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 7] -> "1–3, 7"."""
    runs: list[list[int]] = []
    for each in sorted(numbers):
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def embedded(document: str) -> str | None:
    """What stands between the markers now; None if the document has none."""
    found = _BETWEEN_MARKERS.search(document)
    return found.group() if found else None


def main() -> None:
    if "--write" not in sys.argv[1:]:
        sys.stdout.write(tables())
        return
    document = DOCUMENT.read_text()
    if embedded(document) is None:
        sys.exit(
            f"{DOCUMENT}: no markers <!-- kernel log --> and <!-- /kernel log -->: put them where the tables belong"
        )
    DOCUMENT.write_text(_BETWEEN_MARKERS.sub(tables().replace("\\", r"\\"), document))


if __name__ == "__main__":
    main()
