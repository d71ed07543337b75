"""Process logs: people's lines on a terminal, JSON elsewhere, and one way for both kinds of logger."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog

from ryzen_telemetry import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], _ = handlers, root.setLevel(level)
    structlog.reset_defaults()


def test_on_a_terminal_a_line_is_for_people_and_elsewhere_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_json in ((Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up("ryzen-agent", None)
        logging.getLogger("a.b").warning("rank %d is late", 3)
        assert stream.getvalue().startswith("{") == is_json


def test_lines_for_people_are_as_they_were_whoever_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up("ryzen-coordinator", as_json=False)
    logging.getLogger("a.b").warning("rank %d is late", 3)
    structlog.get_logger("c").info("world of generation 1", job="lab", incident="4")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ryzen-coordinator: warning: rank 3 is late", first)
    assert second.endswith(" ryzen-coordinator: world of generation 1 incident=4 job=lab")


def test_json_has_the_same_keys_whoever_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    logs.set_up("ryzen-agent", as_json=True)
    logging.getLogger("a.b").warning("rank %d is late", 3)
    structlog.get_logger("c").error("cannot be kept", journal="disk full")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("warning", "a.b", "rank 3 is late")
    assert (second["level"], second["logger"], second["message"]) == ("error", "c", "cannot be kept")
    assert second["journal"] == "disk full"
    assert isinstance(first["time"], float)


def test_an_exception_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for as_json in (True, False):
        monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
        logs.set_up("ryzen-agent", as_json)
        try:
            int("wrong")
        except ValueError:
            logging.getLogger("a").exception("a callback has raised")
        text = json.loads(stream.getvalue())["exception"] if as_json else stream.getvalue()
        assert "Traceback" in text
        assert text.rstrip().endswith("with base 10: 'wrong'")
