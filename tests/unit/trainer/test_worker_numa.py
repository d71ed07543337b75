"""The kernel's words for a NUMA policy."""

from __future__ import annotations

import pytest

from ryzen_trainer.worker.numa import parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("default", (0, 0)),
        ("local", (4, 0)),
        ("prefer:1", (1, 0b10)),
        ("bind:0-1,3", (2, 0b1011)),
        ("interleave:0-64", (3, (1 << 65) - 1)),
    ],
)
def test_a_policy_is_a_mode_and_nodes(text: str, found: tuple[int, int]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text", ["", "bind=static:0", "weighted", "bind:x", "bind:0-99999999999", "bind:-1", "bind:1-"]
)
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="NUMA policy"):
        parse(text)
