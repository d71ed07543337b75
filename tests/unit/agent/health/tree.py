"""Trees of /proc and /sys for tests."""

from __future__ import annotations

from pathlib import Path


def put(root: Path, files: dict[str, str]) -> None:
    """Relative path -> text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
