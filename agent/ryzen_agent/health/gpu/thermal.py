"""The arithmetic of heat: against peers, and where it is going. Pure functions; temperatures in °C, times in s.

Against its limits a GPU is hot when it is nearly too late. Against its peers one with a dirty filter or a dried-out
paste shows while the others are well: same model, same node, as busy as it is. And before a GPU throttles it warms
up: a line through the last minutes says when it would be at its limit.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]
"""(seconds, °C)"""

PEERS_MIN = 3
"""With fewer a median says nothing of the one that is left out."""

PEER_FLOOR_C = 12.0
"""GPUs in one stream of air differ by several degrees by their places; chosen, not measured: twice that."""

PEER_DEVIATIONS = 5.0
TO_SIGMA = 1.4826
"""A median absolute deviation times this is a standard deviation, if the values are normal."""

TREND_WINDOW_S = 300.0
TREND_SPAN_S = 120.0
TREND_POINTS = 8
TREND_SLOPE_C_PER_MIN = 0.3
"""Sensors read whole degrees: below this a line through five minutes may be one step of the sensor."""

TREND_FIT = 0.8
"""Share of the variance that the line must explain."""

LEVELLING = 0.7
"""A GPU that starts to work warms up fast and then levels off. Where the newer half of the window climbs at less than
this share of the older half's pace, no line is drawn into the future."""

NEAR_C = 15.0
"""Farther from its limit a GPU may do what it likes."""


class Peers(NamedTuple):
    """What the others say: their median, and the temperature above which a GPU stands out."""

    median_c: float
    limit_c: float


class Line(NamedTuple):
    """Least squares through points: °C at the newest point, °C a second, share of the variance explained."""

    now_c: float
    slope_c_per_s: float
    explained: float


def peers(others_c: Sequence[float]) -> Peers | None:
    """From the temperatures of the other GPUs; None where there are too few.

    Median and median absolute deviation, for one more hot GPU among the others must not hide the first.
    """
    if len(others_c) < PEERS_MIN:
        return None
    median = statistics.median(others_c)
    deviation = statistics.median(abs(each - median) for each in others_c)
    return Peers(median, median + max(PEER_FLOOR_C, PEER_DEVIATIONS * TO_SIGMA * deviation))


def line(points: Sequence[Point]) -> Line | None:
    """Through the points, None where they have no two different times."""
    count = len(points)
    if count < 2 or points[-1][0] <= points[0][0]:
        return None
    newest = points[-1][0]
    times = [at - newest for at, _ in points]
    values = [value for _, value in points]
    mean_t, mean_v = sum(times) / count, sum(values) / count
    spread_t = sum((each - mean_t) ** 2 for each in times)
    spread_v = sum((each - mean_v) ** 2 for each in values)
    together = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
    slope = together / spread_t
    explained = together**2 / (spread_t * spread_v) if spread_v else 1.0
    return Line(mean_v - slope * mean_t, slope, min(explained, 1.0))


def reaches_in_s(points: Sequence[Point], limit_c: float) -> float | None:
    """Seconds until the limit at the present pace; None where nothing says that it is going there.

    `points` ascend in time; those older than `TREND_WINDOW_S` before the newest are left out. 0 at the limit or above.
    """
    recent = [each for each in points if points[-1][0] - each[0] <= TREND_WINDOW_S]
    if len(recent) < TREND_POINTS or recent[-1][0] - recent[0][0] < TREND_SPAN_S:
        return None
    whole = line(recent)
    if whole is None or whole.explained < TREND_FIT or whole.slope_c_per_s * 60 < TREND_SLOPE_C_PER_MIN:
        return None
    if whole.now_c < limit_c - NEAR_C:
        return None
    middle = len(recent) // 2
    older, newer = line(recent[: middle + 1]), line(recent[middle:])
    if older is None or newer is None or newer.slope_c_per_s < LEVELLING * older.slope_c_per_s:
        return None
    return max(limit_c - whole.now_c, 0.0) / whole.slope_c_per_s
