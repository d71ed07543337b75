"""Heat: throttled, hot, about to be. Warnings, for a node is not lost for a hot afternoon: the coordinator sees
whether the rack is."""

from __future__ import annotations

from ryzen_agent.health.gpu import thermal
from ryzen_agent.health.gpu.reading import REASONS, THROTTLING, GpuReading
from ryzen_agent.health.gpu.rules.rule import Finding, Rule, Subject

THROTTLED_LOOKS = 2
THROTTLED_S = 600.0
THROTTLED_PER_MIN = 0.6
HOT_LOOKS = 2
ABOVE_PEERS_LOOKS = 6
HEATING_S = 300.0


def limit_c(reading: GpuReading) -> float | None:
    """Where it begins to slow down; from the margin where there is no limit to be had (Hopper and newer)."""
    identity = reading.identity
    if identity.slowdown_c is not None:
        return identity.slowdown_c
    if identity.gpu_max_c is not None:
        return identity.gpu_max_c
    if reading.temperature_c is not None and reading.margin_c is not None and reading.margin_c > 0:
        return reading.temperature_c + reading.margin_c
    return None  # some H100 state a margin of 0 and less though they are well (gpud)


def above_maximum(reading: GpuReading) -> tuple[str, float, float] | None:
    """Where, how hot, and the maximum that the driver states."""
    identity = reading.identity
    for where, degrees, maximum in (
        ("", reading.temperature_c, identity.gpu_max_c or identity.slowdown_c),
        ("memory at ", reading.memory_temperature_c, identity.memory_max_c),
    ):
        if degrees is not None and maximum and degrees > maximum:
            return where, degrees, maximum
    return None


def above_peers(reading: GpuReading, peers: tuple[GpuReading, ...]) -> thermal.Peers | None:
    """What its peers say, where it is hotter than they let it be. Only of GPUs that work, against those that do."""
    if reading.temperature_c is None or not reading.busy:
        return None
    others = [peer.temperature_c for peer in peers if peer.busy and peer.temperature_c is not None]
    said = thermal.peers(others)
    return said if said is not None and reading.temperature_c > said.limit_c else None


def throttled(subject: Subject) -> Finding | None:
    """clocks are lowered for heat, power brake or by the hardware: at two looks in a row, or at 0.6 a minute over ten

    gpud: hardware slowdown bits at 0.6 a minute over ten minutes mean an inspection of the hardware. A software power
    cap is how a busy GPU looks and does not count. Value: throttled looks a minute.
    """
    looks = subject.history.since(THROTTLED_S)
    count = sum(1 for look in looks if look.throttling)
    rate = count * 60 / THROTTLED_S
    in_a_row = subject.history.in_a_row(lambda look: bool(look.throttling))
    if in_a_row < THROTTLED_LOOKS and rate < THROTTLED_PER_MIN:
        return None
    bits = 0
    for look in looks:
        bits |= look.throttling
    words = " and ".join(word for bit, word in REASONS.items() if bits & THROTTLING & bit)
    span_s = max(looks[-1].at_s - looks[0].at_s, 60.0)
    degrees = subject.reading.temperature_c
    heat = f" at {degrees:.0f} °C" if degrees is not None else ""
    return Finding(f"throttled{heat} ({words.replace('_', ' ')})", count * 60 / span_s, THROTTLED_PER_MIN)


def hot(subject: Subject) -> Finding | None:
    """above its own maximum (core or memory) at two looks in a row, or above its busy peers' median by more than
    max(12 °C, 5 deviations) at six

    Maxima: the driver's thresholds, as gpud does. Peers: same model in the node, median and median absolute deviation
    of the others (at least three).
    """
    reading, history = subject.reading, subject.history
    above = above_maximum(reading)
    if above is not None and history.in_a_row(lambda look: look.above_maximum) >= HOT_LOOKS:
        where, degrees, maximum = above
        return Finding(f"{where}{degrees:.0f} °C, its maximum is {maximum:.0f} °C", degrees, maximum)
    core, said = reading.temperature_c, above_peers(reading, subject.peers)
    if core is None or said is None or history.in_a_row(lambda look: look.above_peers) < ABOVE_PEERS_LOOKS:
        return None
    return Finding(f"{core:.0f} °C, its busy peers are at {said.median_c:.0f} °C", core, said.limit_c)


def heating(subject: Subject) -> Finding | None:
    """a line through the last five minutes reaches the slowdown temperature within five more

    Least squares; the line must explain 80 % of the variance, the GPU be within 15 °C of the limit and not be
    levelling off. Chosen, not measured: early enough to act. Value: the temperature it would have then.
    """
    limit = limit_c(subject.reading)
    points = [(each.at_s, each.temperature_c) for each in subject.history.looks if each.temperature_c is not None]
    if limit is None or not points:
        return None
    seconds = thermal.reaches_in_s(points, limit)
    if seconds is None or seconds > HEATING_S:
        return None
    trend = thermal.line([each for each in points if points[-1][0] - each[0] <= thermal.TREND_WINDOW_S])
    expected = trend.now_c + trend.slope_c_per_s * HEATING_S if trend else limit
    return Finding(f"at {points[-1][1]:.0f} °C and rising: {limit:.0f} °C in {seconds:.0f} s", expected, limit)


RULES = (
    Rule("gpu.throttled", "warning", "watch_repeat", throttled),
    Rule("gpu.hot", "warning", "watch_repeat", hot),
    Rule("gpu.heating", "warning", "watch_repeat", heating),
)
