"""docs/telemetry.md says what the catalogue says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "telemetry_docs.py"


def test_the_tables_of_the_page_are_those_of_the_catalogue() -> None:
    spec = importlib.util.spec_from_file_location("telemetry_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.DOCUMENT.read_text()
    assert script.document(text) == text, "run scripts/telemetry_docs.py"
