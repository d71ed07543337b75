"""Ids of traces are derived, and travel as W3C's traceparent."""

from __future__ import annotations

import pytest

from ryzen_telemetry.records import Sample, read_traceparent, snapshot_of, trace_of


def test_the_same_words_are_the_same_trace_and_others_are_not() -> None:
    assert trace_of("incident", "me", "run", 7) == trace_of("incident", "me", "run", 7)
    assert trace_of("incident", "me", "run", 7) != trace_of("incident", "me", "run", 8)
    root = trace_of("incident", 7)
    assert root.child("stop") == root.child("stop")
    assert len({root.span_id, root.child("stop").span_id, root.child("start").span_id}) == 3
    assert root.child("stop").trace_id == root.trace_id


def test_a_traceparent_is_read_as_it_was_written() -> None:
    trace = trace_of("incident", 7)
    assert read_traceparent(trace.parent) == trace


@pytest.mark.parametrize(
    "text",
    ["", "00", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
     "00-" + "A" * 32 + "-" + "1" * 16 + "-01", "00-" + "a" * 32 + "-" + "1" * 16 + "-01\n"],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert read_traceparent(text) is None


def test_a_snapshot_has_the_series_of_each_metric_together() -> None:
    found = snapshot_of([Sample("a", 1.0, (("x", 1),)), Sample("b", 2.0), Sample("a", 3.0, (("x", 2),))])
    assert found == {"a": [(1.0, {"x": 1}), (3.0, {"x": 2})], "b": [(2.0, {})]}
