from __future__ import annotations

import hypothesis
import pytest

# No test may depend on absolute speed.
hypothesis.settings.register_profile("ryzen", deadline=None)
hypothesis.settings.load_profile("ryzen")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write what the scenarios in tests/simulation really give into them"
    )
