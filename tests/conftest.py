from __future__ import annotations

import signal

import hypothesis
import pytest

# What a script starts in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test may depend on absolute speed.
hypothesis.settings.register_profile("ryzen", deadline=None)
hypothesis.settings.load_profile("ryzen")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write what the scenarios in tests/simulation really give into them"
    )
