"""Prints the phase tables of the coordinator's core as mermaid diagrams, for ARCHITECTURE.md.

python scripts/phase_diagram.py            both, with the markers between which ARCHITECTURE.md keeps them
python scripts/phase_diagram.py --write    puts them there
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ryzen_coordinator.core.phases import JOB_PHASES, NODE_PHASES, Table, mermaid

DOCUMENT = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"
DIAGRAMS: dict[str, Table] = {"job phases": JOB_PHASES, "node phases": NODE_PHASES}


def block(name: str, table: Table) -> str:
    """One diagram between its markers."""
    return f"<!-- {name} -->\n```mermaid\n{mermaid(table)}```\n<!-- end of {name} -->"


def embedded(name: str, document: str) -> str | None:
    """The block that the document has now, None if it has no such markers."""
    found = re.search(rf"<!-- {name} -->.*?<!-- end of {name} -->", document, re.DOTALL)
    return found.group() if found else None


def main() -> None:
    blocks = {name: block(name, table) for name, table in DIAGRAMS.items()}
    if "--write" not in sys.argv[1:]:
        sys.stdout.write("\n\n".join(blocks.values()) + "\n")
        return
    document = DOCUMENT.read_text()
    for name, text in blocks.items():
        before = embedded(name, document)
        if before is None:
            sys.exit(f"{DOCUMENT}: no markers <!-- {name} --> ... <!-- end of {name} -->: put them where it belongs")
        document = document.replace(before, text)
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    main()
