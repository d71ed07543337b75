"""Prints the phase tables of the coordinator's core as mermaid diagrams, for ARCHITECTURE.md.

python scripts/phase_diagram.py            as they stand between the markers <!-- phases --> and <!-- /phases -->
python scripts/phase_diagram.py --write    puts them there
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ryzen_coordinator.core.phases import JOB_PHASES, NODE_PHASES, mermaid

DOCUMENT = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"
_BETWEEN_MARKERS = re.compile(r"(?<=<!-- phases -->\n).*?(?=<!-- /phases -->)", re.DOTALL)


def diagrams() -> str:
    """Both diagrams, each under its title."""
    parts = {"A job": JOB_PHASES, "A node": NODE_PHASES}
    return "\n".join(f"{title}:\n\n```mermaid\n{mermaid(table)}```\n" for title, table in parts.items())


def embedded(document: str) -> str | None:
    """What stands between the markers now; None if the document has none."""
    found = _BETWEEN_MARKERS.search(document)
    return found.group() if found else None


def main() -> None:
    if "--write" not in sys.argv[1:]:
        sys.stdout.write(diagrams())
        return
    document = DOCUMENT.read_text()
    if embedded(document) is None:
        sys.exit(f"{DOCUMENT}: no markers <!-- phases --> and <!-- /phases -->: put them where the diagrams belong")
    DOCUMENT.write_text(_BETWEEN_MARKERS.sub(diagrams().replace("\\", r"\\"), document))


if __name__ == "__main__":
    main()
